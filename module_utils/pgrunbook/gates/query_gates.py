# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the query on the filled columns really faster than the one that it replaces?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import TableInfo, conversion, volatile
from ..core.connection import Connection
from ..core.errors import RunbookError, reason
from ..core.obstacles import Obstacles
from ..core.spec import Query, Spec
from ..core.sql import filled_in, table
from ..ddl.index_advice import described, entry, megabytes, on_columns, proposals
from . import bootstrap, processor_time
from .gate import Gate, check

DIFFERENT = "DIFFERENT RESULTS"
WARM_CACHE_PROCESSOR_RATIO = 2.0  # times less processor time, at least, where buffers decide
LEAST_REPETITIONS = 6  # of fewer values a median has no 95 % interval: 2 * 0.5 ** 5 > 0.05
MOST_TIMES = 10  # as many repetitions, where it is too close to call
LONGEST_MORE_SECONDS = 60.0  # of the repetitions beyond those that the phase asks for
LEAST_MS, LEAST_BUFFERS = 0.001, 1  # what a query takes at least, to divide by

Runs = tuple[processor_time.Measured, processor_time.Measured]
"""Of the query on the filled columns and of the one that it replaces, one after the other."""


def compile(spec: Spec, columns: Mapping[str, Composable], query: str) -> Composed:
    """The query with {table}, {source} and the phase's {column}s filled in, as
    conversion.readable() gives them.

    Raises RunbookError where a placeholder is none of these.
    """
    values = {
        "table": table(spec.table),
        "source": table(spec.source),
        **columns,
    }
    try:
        return filled_in(query.rstrip("; \n"), values)
    except ValueError as error:
        raise RunbookError(
            f"The query {query!r} has a placeholder that cannot be filled ({error}). Next step: "
            f"use {', '.join(f'{{{v}}}' for v in values)}, and double any other brace."
        ) from None


def require_sound_queries(conn: Connection, spec: Spec, info: TableInfo) -> list[str]:
    """Have the server plan each query. Returns the volatile functions that they call, all of which
    are acknowledged.

    Raises RunbookError with those that are wrong, would write, or call a volatile function that is
    not acknowledged, naming them.
    """
    columns = conversion.readable(spec, info.types)
    obstacles = Obstacles(conn)
    found: set[str] = set()
    for query in spec.queries:
        for side in (query.snapshot, query.baseline):
            found |= obstacles.checked(_sound, conn, spec, columns, query, side) or set()
    obstacles.require_none()
    return sorted(found)


def _sound(
    conn: Connection, spec: Spec, columns: Mapping[str, Composable], query: Query, side: str
) -> set[str]:
    """The volatile functions that one side of a pair calls. Raises as require_sound_queries()."""
    compiled = compile(spec, columns, side)
    if '"ModifyTable"' in json.dumps(_planned(conn, query, compiled)):
        raise RunbookError(
            f"Query {query.name!r} would write: {side} "
            "Next step: correct it in phase_queries, which only compares what is read."
        )
    _planned(conn, query, _as_text(0, compiled))
    said = f"Query {query.name!r} cannot be measured"
    return volatile.acknowledged(conn, spec, compiled, said)


def compare(conn: Connection, spec: Spec, *, measure: bool) -> dict[str, Any]:
    """Measure each pair of queries as measure_pair() does, and judge it by decide(). A query that
    misses has a proposal: the index that would serve it, or None. Without measure the server only
    plans the queries.
    """
    info = catalog.inspect(conn, spec.table)
    names = catalog.present_names(spec, info)
    require_sound_queries(conn, spec, info)
    if not measure:
        return {"changed": False, "pairs": [], "checks": []}
    measured = [measure_pair(conn, spec, info, query) for query in spec.queries]
    missed = [not met(spec, pair)[0] for pair in measured]
    found = proposals(conn, spec, info, names) if any(missed) else [None] * len(measured)
    pairs = [
        {**pair, "proposal": proposal if miss else None}
        for pair, miss, proposal in zip(measured, missed, found, strict=True)
    ]
    return {"changed": False, "pairs": pairs, "checks": judge(spec, pairs)}


def judge(spec: Spec, pairs: Sequence[dict[str, Any]]) -> list[Gate]:
    """The gate of each query, from its pair as compare() has it, a trial's result included."""
    return [_check(spec, query, pair) for query, pair in zip(spec.queries, pairs, strict=True)]


def decide(pair: Mapping[str, Any], speedup_min: float) -> tuple[bool | None, str]:
    """The speed-up gate's one rule: whether it passes, and which part of the rule decided.

    It passes on the median time; or, where no page came from outside shared buffers, so that a
    warm cache hides what is saved, on the buffers touched, if processor time is at least halved and
    the query is not slower. A ratio reaches its threshold where its whole interval does. Where an
    interval that matters is on both sides of its threshold the first value is None, and the second
    one that interval's ratio.
    """
    faster = _reaches(pair["time_interval"], speedup_min)
    if faster:
        return True, "time"
    if pair["read_from_outside"]:
        why = "time (pages were read from outside shared buffers)"
        return faster, "time" if faster is None else why
    warm = {
        "buffers": _reaches(pair["buffer_interval"], speedup_min),
        "processor time": _reaches(pair["processor_interval"], WARM_CACHE_PROCESSOR_RATIO),
        "latency": _reaches(pair["time_interval"], 1.0),
    }
    missed = [part for part, reached in warm.items() if reached is False]
    if all(warm.values()):
        return True, "buffers (the cache was warm)"
    if faster is None:
        return None, "time"
    if missed:
        return False, f"{missed[0]} (the cache was warm)"
    return None, next(part for part, reached in warm.items() if reached is None)


def _reaches(interval: Sequence[float], least: float) -> bool | None:
    """Whether a ratio reaches a threshold; None where its interval is on both sides."""
    low, high = interval
    return True if low >= least else False if high < least else None


def met(spec: Spec, pair: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a pair that was measured meets the phase's speed-up, and what decided that, in words.
    One that is too close to call does not."""
    passed, part = decide(pair, spec.speedup_min)
    if passed is None:
        return False, f"too close to call after {pair['runs']} runs, because of {part}"
    return passed, f"decided by {part}"


def measure_pair(conn: Connection, spec: Spec, info: TableInfo, query: Query) -> dict[str, Any]:
    """Both queries of a pair, measured in turn, and whether their results are equal.

    A first run of each, whose results are compared, is not measured. Then they run spec.repetitions
    times, but LEAST_REPETITIONS at least; and twice as often again and again as long as decide()
    finds it too close to call, but no more than MOST_TIMES as often and for LONGEST_MORE_SECONDS.
    """
    columns = conversion.readable(spec, info.types)
    sides = [compile(spec, columns, side) for side in (query.snapshot, query.baseline)]
    results = _results(conn, sides)
    same = {"name": query.name, "equal": results[0] == results[1], "rows": len(results[0])}
    wanted = max(spec.repetitions, LEAST_REPETITIONS)
    runs = [_in_turn(conn, sides) for _ in range(wanted)]
    pair = {**same, **_compared(runs)}
    until = time.monotonic() + LONGEST_MORE_SECONDS
    while decide(pair, spec.speedup_min)[0] is None and len(runs) < wanted * MOST_TIMES:
        more = min(len(runs), wanted * MOST_TIMES - len(runs))
        runs += [_in_turn(conn, sides) for _ in range(more) if time.monotonic() < until]
        pair = {**same, **_compared(runs)}
        if time.monotonic() >= until:
            break
    return pair


def _in_turn(conn: Connection, sides: Sequence[Composed]) -> Runs:
    ours, theirs = (processor_time.measured(conn, side) for side in sides)
    return ours, theirs


def _compared(runs: Sequence[Runs]) -> dict[str, Any]:
    """The ratios of what was measured of both queries, with their intervals; above 1, the first one
    is better."""
    measures: dict[str, bootstrap.Pairs] = {
        "time": [(b.ms, max(a.ms, LEAST_MS)) for a, b in runs],
        "processor": [(b.processor_ms, max(a.processor_ms, LEAST_MS)) for a, b in runs],
        "buffer": [(b.buffers, max(a.buffers, LEAST_BUFFERS)) for a, b in runs],
    }
    found = bootstrap.intervals(measures)
    return {
        "runs": len(runs),
        **{f"{name}_ratio": round(bootstrap.ratio(of), 2) for name, of in measures.items()},
        **{f"{name}_interval": list(interval) for name, interval in found.items()},
        "seed": bootstrap.SEED,
        "read_from_outside": any(a.read or b.read for a, b in runs),
        "snapshot": processor_time.side([ours for ours, _ in runs]),
        "baseline": processor_time.side([theirs for _, theirs in runs]),
    }


def _check(spec: Spec, query: Query, pair: dict[str, Any]) -> Gate:
    passed, decided = met(spec, pair)
    proposal = f". {_proposed(spec, pair['proposal'])}" if pair["proposal"] else ""
    return check(
        f"query:{query.name}",
        f"Query speed-up: {query.name}",
        test=5,
        target=f"equal results, ≥ {spec.speedup_min:g} × faster, or from a warm cache "
        f"≥ {spec.speedup_min:g} × fewer buffers, ≥ {WARM_CACHE_PROCESSOR_RATIO:g} × less "
        "processor time and not slower" + ("" if query.enforce else " (not enforced)"),
        measured=f"{_figures(pair)}; {decided}{proposal}",
        passed=passed and pair["equal"],
        enforce=query.enforce or not pair["equal"],
        evidence=pair,
    )


def _figures(pair: Mapping[str, Any]) -> str:
    """The ratios as a person reads them; processor time is left out where no query had workers."""
    equal = "equal results" if pair["equal"] else DIFFERENT
    ours, theirs = (pair[of]["ms"]["median"] for of in ("snapshot", "baseline"))
    processor_time = ""
    if pair["processor_interval"] != pair["time_interval"]:
        processor_time = f"{_ratio(pair, 'processor')} in processor time, "
    return (
        f"{_ratio(pair, 'time')} in time ({ours} against {theirs} ms), "
        f"{processor_time}{_ratio(pair, 'buffer')} in buffers, {equal}"
    )


def _ratio(pair: Mapping[str, Any], of: str) -> str:
    """A ratio with its interval, as a person reads it."""
    low, high = pair[f"{of}_interval"]
    return f"{pair[f'{of}_ratio']} × [{low}–{high}]"


def _proposed(spec: Spec, proposal: dict[str, Any]) -> str:
    """The index that would serve a query in a sentence or two: as estimated, or as tried."""
    tried = proposal.get("tried")
    if not tried:
        return f"{described(proposal)}. In phase_indexes: {entry(proposal)}"
    index = f"index {on_columns(proposal)}, built in {tried['seconds']:g} s"
    index += f", {megabytes(tried['bytes'])}"
    if not tried["kept"]:
        meets = "it meets the target" if tried["met"] else "it misses the target all the same"
        decided = met(spec, tried)[1]
        return (
            f"With an {index}, and dropped again: {_figures(tried)}; {decided}: {meets}. "
            f"In phase_indexes: {entry(proposal)}"
        )
    without = tried["without"]
    return (
        f"The {index}, was kept. Without it: {without['time_ratio']} × in time, "
        f"{without['buffer_ratio']} × in buffers. Put it into phase_indexes: {entry(proposal)}"
    )


def _planned(conn: Connection, query: Query, side: Composed) -> list[dict[str, Any]]:
    explain = SQL("EXPLAIN (FORMAT JSON) {}").format(side)
    try:
        return conn.execute(explain, (), binary=True).fetchall()
    except psycopg.Error as error:
        raise RunbookError(
            f"Query {query.name!r} is wrong: {reason(error)}. "
            "Next step: correct it in phase_queries."
        ) from None


def _results(conn: Connection, queries: Sequence[Composed]) -> list[list[str]]:
    """The rows of each query as text, sorted: their order does not matter.

    All are read in one statement, and so in one snapshot: a row that others insert between two
    queries is in the results of both or of neither.
    """
    together = SQL(" UNION ALL ").join(_as_text(n, query) for n, query in enumerate(queries))
    found = conn.execute(together, ()).fetchall()
    return [sorted(row["row"] for row in found if row["side"] == n) for n in range(len(queries))]


def _as_text(side: int, query: Composed) -> Composed:
    """Each row of a query as PostgreSQL writes it. A line break ends a trailing comment."""
    return SQL("SELECT {} AS side, ROW(q.*)::text AS row FROM (\n{}\n) q").format(
        Literal(side), query
    )
