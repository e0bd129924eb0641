# SPDX-License-Identifier: GPL-3.0-or-later
"""benchmark-sizes.md: what a run costs by size, and a billion rows by arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.report import about_machine
from benchmarks.results import Record, Results
from benchmarks.scale import FILE_NAME
from benchmarks.step import STEPS
from benchmarks.tables import NOT_MEASURED, cell, megabytes, one_decimal, table, whole
from benchmarks.ways import label

FILES = (FILE_NAME, "benchmark-sizes.md", "benchmark-sizes.svg")
BILLION = 1_000_000_000
FAILED = "**FAILED**"


def write(results: Results, folder: Path) -> str:
    """Write benchmark-sizes.md and benchmark-sizes.svg; returns the text of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(results)
    (folder / FILES[1]).write_text(text, encoding="utf-8")
    plot.write_sizes(results, folder / FILES[2])
    return text


def markdown(results: Results) -> str:
    """The whole page."""
    memory = _by_step(results, lambda step: megabytes(step["peak_bytes"]))
    longest = _by_step(results, _longest)
    blocks = [
        "# Cost against size",
        _about(results),
        about_machine(results),
        f"![Seconds and memory of each step by size]({FILES[2]})",
        "## Time and space",
        _costs(results),
        _failures(results),
        results.get("note", ""),
        "## One billion rows by arithmetic",
        billion(results),
        "## Peak memory of the step's process, MB",
        memory,
        "## Longest transaction, seconds",
        longest,
        _queries(results),
        "## How it is measured",
        _METHOD,
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def billion(results: Results) -> str:
    """What the largest size that came to its end would give, multiplied."""
    whole_runs = [record for record in results["measurements"] if not record["failed"]]
    if not whole_runs:
        return "No size came to its end, so there is nothing to multiply."
    largest = max(whole_runs, key=lambda record: record["sessions"])
    factor, steps = BILLION / largest["sessions"], largest["steps"]
    hours = {step: found["seconds"] * factor / 3600 for step, found in steps.items()}
    wal = steps["backfill"]["wal_bytes"] * factor
    journal = largest["after"]["journal_bytes"] * factor
    return (
        f"**1 billion rows by arithmetic, not measured**: {factor:,.1f} × the figures at "
        f"{largest['sessions']:,} rows are {_hours(hours['plan'])} for the plan of a run, "
        f"**{_hours(hours['backfill'])}** for the backfill, {_hours(hours['validation'])} for the "
        f"validation and {_hours(hours['rollback'])} for a rollback; {wal / 1e9:,.0f} GB of WAL "
        f"({steps['rollback']['wal_bytes'] * factor / 1e9:,.0f} GB more for a rollback) and "
        f"{journal / 1e9:,.1f} GB of journal. A dry run reads a sample of the table, so it takes "
        f"no longer. What an operator would set: a window by the day and `phase_window_end`, so "
        f"that the run stops and goes on in the next one; two or more workers; "
        f"`phase_max_wal_mb_per_second` below what the archive takes; max_wal_size as large as the "
        f"disk allows, so that there are fewer full-page images. It takes every figure to grow "
        "as the rows do; the table above shows how far that held, and nothing here shows it beyond "
        "its last line."
    )


def _about(results: Results) -> str:
    settings = results["settings"]
    sizes = ",".join(str(rows) for rows in settings["sizes"])
    return (
        f"One run a size ({label(settings['way'])}), nothing else at work, each step measured "
        f"once. The command was `SIZES={sizes} WAYS={settings['way']} "
        f"SETTINGS={settings['profile']} make bench-sizes`; `python -m benchmarks.run report` "
        f"writes this page again from [{FILE_NAME}]({FILE_NAME})."
    )


def _costs(results: Results) -> str:
    head = ["rows of the table", "rows filled", "dry run s", "backfill s", "rows/s"]
    head += ["validation s", "rollback s", "rows/s back", "WAL B a row", "journal MB", "table MB"]
    head += ["indexes MB", "result"]
    rows = []
    for record in results["measurements"]:
        fill, back = _step(record, "backfill"), _step(record, "rollback")
        after = record.get("after", {})
        rows.append(
            [
                f"{record['sessions']:,}",
                _shown(fill.get("rows"), whole),
                _seconds(record, "dry run"),
                _seconds(record, "backfill"),
                _rate(fill, fill.get("seconds")),
                _seconds(record, "validation"),
                _seconds(record, "rollback"),
                _rate(back, back.get("parts_seconds", {}).get("rows")),
                _shown(fill["wal_bytes"] / fill["rows"] if fill.get("rows") else None, whole),
                *(_shown(after.get(f"{name}_bytes"), megabytes) for name in _SPACE),
                result(record),
            ]
        )
    return table(head, rows, text_columns=(12,))


_SPACE = ("journal", "table", "index")


def result(record: Record) -> str:
    """right; or what was wrong or failed."""
    if record["failed"]:
        return FAILED
    steps = record["steps"]
    wrong = [f"gate {gate} missed" for gate in steps["validation"]["missed"]]
    wrong += [f"{step} wrong" for step in ("backfill", "rollback") if not _same(steps[step])]
    return f"**WRONG**: {', '.join(wrong)}" if wrong else "right"


def _same(step: dict[str, Any]) -> bool:
    return bool(step["same_result"])


def _failures(results: Results) -> str:
    failed = [record for record in results["measurements"] if record["failed"]]
    return "\n".join(
        f"- {FAILED} with {record['sessions']:,} rows, {cell(record['failed'])}"
        for record in failed
    )


def _by_step(results: Results, show: Callable[[dict[str, Any]], str]) -> str:
    rows = [
        [
            f"{record['sessions']:,}",
            *(
                show(found) if (found := _step(record, step)) else _absent(record, step)
                for step in STEPS
            ),
        ]
        for record in results["measurements"]
    ]
    return table(["rows of the table", *STEPS], rows, text_columns=())


def _queries(results: Results) -> str:
    """What the longest transaction of each step was doing when it was last seen."""
    last = ([record for record in results["measurements"] if record["steps"]] or [_NOTHING])[-1]
    lines = [
        f"- {step}: `{query[:_QUERY_SHOWN]}{'…' if len(query) > _QUERY_SHOWN else ''}`"
        for step, found in last["steps"].items()
        if (query := found["longest_transaction"]["query"])
    ]
    if not lines:
        return ""
    return "\n".join([f"Its latest statement then, with {last['sessions']:,} rows:", "", *lines])


_NOTHING: Record = {"sessions": 0, "steps": {}}
_QUERY_SHOWN = 100


def _longest(step: dict[str, Any]) -> str:
    found = step["longest_transaction"]
    return FAILED if found["failed"] else f"{found['seconds']:,.2f}"


def _step(record: Record, name: str) -> dict[str, Any]:
    """What was found in a step; empty where it did not come to its end."""
    found: dict[str, Any] = record["steps"].get(name, {})
    return found


def _seconds(record: Record, name: str) -> str:
    found = _step(record, name)
    return one_decimal(found["seconds"]) if found else _absent(record, name)


def _absent(record: Record, name: str) -> str:
    return FAILED if record["failed"].startswith(f"{name}: ") else NOT_MEASURED


def _rate(found: dict[str, Any], seconds: float | None) -> str:
    return whole(found["rows"] / seconds) if found and seconds else NOT_MEASURED


def _shown(value: float | None, show: Callable[[float], str]) -> str:
    return NOT_MEASURED if value is None else show(value)


def _hours(hours: float) -> str:
    return f"{hours:,.1f} hours" if hours >= 1 else f"{hours * 60:,.1f} minutes"


_METHOD = "\n".join(
    f"- {point}"
    for point in (
        "Each size has a database of its own, with invented data, and each step a process of its "
        "own: the dry run (the plan in check mode), plan, approvals and rename (plan), backfill "
        "with its index builds, the data gates with the exact comparison of every row "
        "(validation), plan and approval of the rollback, and the rollback of rows, indexes and "
        "columns. A checkpoint comes before each.",
        "The rows were last read by the benchmark's own hashes over the whole table: what fits "
        "into memory is there.",
        "The result is right where a hash over key and columns of all rows is that of one SELECT "
        "on the untouched data after the backfill, and that of the untouched data after the "
        "rollback, all rows were filled and given back, the indexes are those of before, and no "
        "data gate was missed.",
        "rows/s is over the whole step, index builds and VACUUM included; rows/s back is of giving "
        "the rows back alone.",
        "Peak memory is VmHWM of the process that runs the modules, Python and its libraries "
        "included; ansible-playbook is not counted.",
        "The longest transaction is the greatest age of a transaction of pgrunbook in "
        "pg_stat_activity, looked up ten times a second, index builds and VACUUM left out.",
        "1 MB is 1,000,000 bytes. The journal is all of schema pgrunbook after the backfill. "
        "Autovacuum is on.",
    )
)
