# SPDX-License-Identifier: GPL-3.0-or-later
"""Break the program in one place after another, on a copy, and see whether a test notices.

    python -m tests.mutants               # all of breakages.toml
    python -m tests.mutants 7 12 ledger   # the 7th, the 12th, and those with that word in them

A breakage is noticed where one of its tests fails, or its fixture does. Whatever keeps pytest from
running them, such as a module that cannot be imported, is a fault of the entry.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from itertools import chain, groupby
from pathlib import Path

from tests.mutants.breakages import Breakage, Fault, applied, files_of, load, selected

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 180.0
"""Seconds for the tests of one breakage. Longer is a hang, which its entry has to announce."""
FOR_ALL_TESTS = 1800.0
FOR_THE_FIXTURES = 60.0  # seconds in which pytest stops its servers
PASSED, FAILED = 0, 1  # exit statuses of pytest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the breakages that were asked for; 0 where each was noticed."""
    options = _options(arguments)
    chosen = [b for b in load() if _is_asked_for(b, options.which)]
    if options.list:
        for breakage in chosen:
            print(f"{breakage.number:3}  {breakage.file}: {breakage.promise}")
        return 0
    if not chosen:
        sys.exit("No breakage is of that number, or has that word in its promise or file.")
    with tempfile.TemporaryDirectory(prefix="pgrunbook-mutants-") as folder:
        copies = [_copy(Path(folder) / str(n)) for n in range(options.jobs)]
        try:
            tests = _tests_of(copies[0], chosen)
            _require_green(copies, chain(*tests.values()))
        except Fault as fault:
            sys.exit(f"FAULT  {fault}")
        return _report(chosen, list(_results(copies, chosen, tests)))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("which", nargs="*", help="a number, or a word of a promise or file")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--list", action="store_true", help="show the breakages and run none")
    return parser.parse_args(arguments)


def _is_asked_for(breakage: Breakage, which: Sequence[str]) -> bool:
    said = f"{breakage.promise} {breakage.file}".casefold()
    return not which or any(
        int(w) == breakage.number if w.isdigit() else w.casefold() in said for w in which
    )


def _copy(folder: Path) -> Path:
    """A copy of what git tracks, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _tests_of(copy: Path, chosen: Sequence[Breakage]) -> dict[int, list[str]]:
    """The node ids of each breakage's tests, by its number. Raises Fault where an entry does not
    fit."""
    for breakage in chosen:
        applied(breakage, (copy / breakage.file).read_text(encoding="utf-8"))
    files = sorted({file for b in chosen for file in files_of(b)})
    status, output = _pytest(copy, ["--collect-only", *files], FOR_ALL_TESTS)
    if status != PASSED:
        raise Fault(f"The tests cannot be collected:\n{output}")
    collected = [line for line in output.splitlines() if "::" in line]
    return {b.number: selected(b, collected) for b in chosen}


def _require_green(copies: Sequence[Path], tests: Iterable[str]) -> None:
    """Raise Fault where a test fails on the program as it is. Each copy has files of its own."""
    by_file = [list(group) for _, group in groupby(sorted(set(tests)), _file)]
    shares = [list(chain(*by_file[n :: len(copies)])) for n in range(len(copies))]
    print(f"{sum(map(len, shares))} tests on the program as it is …", flush=True)
    with ThreadPoolExecutor(len(copies)) as pool:
        for status, output in pool.map(_if_any, copies, shares):
            if status != PASSED:
                raise Fault(f"Not all tests pass on the program as it is:\n{output}")


def _if_any(copy: Path, tests: Sequence[str]) -> tuple[int | None, str]:
    return _pytest(copy, tests, FOR_ALL_TESTS) if tests else (PASSED, "")


def _file(test: str) -> str:
    return test.partition("::")[0]


def _results(
    copies: Sequence[Path], chosen: Sequence[Breakage], tests: dict[int, list[str]]
) -> Iterator[tuple[Breakage, str]]:
    """Each breakage with what became of it: empty where it was noticed."""
    free: queue.Queue[Path] = queue.Queue()
    for copy in copies:
        free.put(copy)

    def attempt(breakage: Breakage) -> str:
        copy, started = free.get(), time.monotonic()
        try:
            with _broken(copy, breakage):
                status, output = _pytest(copy, tests[breakage.number], LONGEST)
        finally:
            free.put(copy)
        why = _why_unnoticed(breakage, status, output)
        word = "NOT NOTICED" if why else "noticed"
        seconds = time.monotonic() - started
        print(f"{breakage.number:3}  {word:11} {seconds:5.1f} s  {breakage.promise}", flush=True)
        return why

    with ThreadPoolExecutor(len(copies)) as pool:
        futures = {pool.submit(attempt, breakage): breakage for breakage in chosen}
        for future in as_completed(futures):
            yield futures[future], future.result()


@contextmanager
def _broken(copy: Path, breakage: Breakage) -> Iterator[None]:
    path = copy / breakage.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(applied(breakage, whole), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(whole, encoding="utf-8")


def _why_unnoticed(breakage: Breakage, status: int | None, output: str) -> str:
    if status == FAILED or (status is None and breakage.hangs):
        return ""
    if status is None:
        return f"timed out after {LONGEST:.0f} s; where that is how it shows, say hangs = true"
    if status == PASSED:
        return "its tests pass"
    return f"a fault of the entry: pytest ended with status {status}\n{output}"


def _report(chosen: Sequence[Breakage], results: Sequence[tuple[Breakage, str]]) -> int:
    unnoticed = [(b, why) for b, why in sorted(results, key=lambda r: r[0].number) if why]
    for breakage, why in unnoticed:
        print(f"NOT NOTICED  {breakage.number} {breakage.promise}\n  {breakage.file}: {why}")
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} breakages were noticed.")
    return 1 if unnoticed else 0


def _pytest(copy: Path, arguments: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Exit status, None after that many seconds, and output. Bytecode is not kept: it is known by
    its time and size, which a breakage need not change."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    # Two files of one name, in tests/unit and tests/integration, are told apart by importlib only.
    kept = ["-p", "no:cacheprovider", "--import-mode=importlib"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *kept, *arguments]
    with subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None, _stopped(process)
        except BaseException:
            _stopped(process)
            raise
        return process.returncode, output


def _stopped(process: subprocess.Popen[str]) -> str:
    """End pytest, first so that its fixtures stop their servers; its output."""
    process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=FOR_THE_FIXTURES)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return output


if __name__ == "__main__":
    sys.exit(main())
