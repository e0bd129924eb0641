# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut a small run and its rollback behind each message, and see whether all ends as without a cut.

    python -m tests.crashpoints                      # all points
    python -m tests.crashpoints --every 50           # one point in fifty
    python -m tests.crashpoints built --only 17      # message 17 of the steps with that word
    python -m tests.crashpoints --patient            # each step waits for the server, and goes on

For each step: its points, how many of them left a state that none before had left, so that the run
was carried to its end from there, and how many ended as the uncut run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, groupby, islice

import tests.conftest  # noqa: F401 - makes the program and the modules importable
from ansible.module_utils.pgrunbook.core import reconnect
from tests.crashpoints.explore import STEPS, Explorer, Outcome, Point, explorer

PATIENCE_S = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the points that were asked for; 0 where each was right."""
    options = _options(arguments)
    began = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        shares = [pool.submit(_share, n, options) for n in range(options.jobs)]
        outcomes = [outcome for share in shares for outcome in share.result()]
    _table(outcomes)
    print(f"{time.monotonic() - began:.0f} s, {options.jobs} processes")
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crashpoints", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("word", nargs="?", default="", help="only steps with this word")
    parser.add_argument("--every", type=int, default=1, help="one point in so many (default: all)")
    parser.add_argument("--only", type=int, help="only the messages of this number")
    parser.add_argument("--patient", action="store_true", help="each step has to go on by itself")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes (default: 2)")
    return parser.parse_args(arguments)


def _share(number: int, options: argparse.Namespace) -> list[Outcome]:
    """One process's points, each tried out."""
    reconnect.FIRST_WAIT = 0.02  # the server is there
    with explorer() as found:
        found.patience = PATIENCE_S if options.patient else 0
        chosen = [point for point in found.points() if _is_asked_for(point, options)]
        share = list(islice(chosen, number * options.every, None, options.jobs * options.every))
        outcomes = []
        for step, points in groupby(share, lambda point: point.step):
            outcomes += [_tried(found, point) for point in points]
            print(f"{time.strftime('%X')}  {STEPS[step].name}: done", file=sys.stderr, flush=True)
        return outcomes


def _is_asked_for(point: Point, options: argparse.Namespace) -> bool:
    return options.word in STEPS[point.step].name and options.only in (None, point.number)


def _tried(found: Explorer, point: Point) -> Outcome:
    outcome = found.try_out(point)
    if outcome.wrong:
        print(f"WRONG  {outcome}", flush=True)
    return outcome


def _table(outcomes: Sequence[Outcome]) -> None:
    """What a person reads, as a table in Markdown. A point that a step ended before is none."""
    by_step: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in sorted(outcomes, key=lambda o: o.point.step):
        if outcome.message:
            by_step[STEPS[outcome.point.step].name].append(outcome)
    print("| Step | Points | States | All right | ms a point |\n| --- | --- | --- | --- | --- |")
    by_step["**all**"] = list(chain(*by_step.values()))
    for name, of_step in by_step.items():
        right = sum(not outcome.wrong for outcome in of_step)
        states = sum(outcome.carried_on for outcome in of_step)
        each = 1000 * sum(outcome.seconds for outcome in of_step) / max(len(of_step), 1)
        print(f"| {name} | {len(of_step):,} | {states:,} | {right:,} | {each:,.0f} |")


if __name__ == "__main__":
    sys.exit(main())
