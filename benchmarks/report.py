# SPDX-License-Identifier: GPL-3.0-or-later
"""benchmark.md: the figures as tables, and the targets with how far each is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import plot
from benchmarks.results import (
    FILE_NAME,
    UNLOADED,
    Record,
    Results,
    figure,
    of_size,
    ratio,
    records,
    sizes,
)
from benchmarks.tables import (
    NOT_MEASURED,
    cell,
    figure_text,
    megabytes,
    milliseconds,
    one_decimal,
    table,
    whole,
)
from benchmarks.targets import target_table, targets
from benchmarks.ways import PEERS, label

FILES = (FILE_NAME, "benchmark.md", "benchmark.svg")


def write(results: Results, folder: Path) -> str:
    """Write benchmark.md and benchmark.svg; returns the text of the former."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(results)
    (folder / "benchmark.md").write_text(text, encoding="utf-8")
    plot.write(results, folder / "benchmark.svg")
    return text


def markdown(results: Results) -> str:
    """The whole page."""
    blocks = [
        "# Benchmark",
        *_about(results),
        "![Wall time and rate by way, rate by size, the application's latency](benchmark.svg)",
        "## Targets",
        "Each is a ratio of two medians.",
        target_table(targets(results)),
        "## Each way alone",
        _alone_table(results),
        *_alone_notes(results),
        *_rollback(results),
        "## With an application at work",
        _application_table(results),
        _application_notes(results),
        "## By size",
        _size_table(results),
        "`make bench-sizes` takes larger tables, one run of pgrunbook each, and measures each step "
        "of it: seconds, memory, transactions. Its page is benchmark-sizes.md.",
        "## How it is measured",
        _method(results),
    ]
    return "\n\n".join(blocks) + "\n"


def _about(results: Results) -> list[str]:
    settings = results["settings"]
    times = "once" if settings["repeat"] == 1 else f"{settings['repeat']} times"
    return [
        f"{settings['sessions']:,} sessions; every way was measured {times}. The command was "
        f"`{_command(settings)}`; `python -m benchmarks.run report` writes this page again from "
        "[benchmark.json](benchmark.json).",
        about_machine(results),
    ]


def about_machine(results: Results) -> str:
    """When and on what it was measured."""
    machine, server = results["machine"], results["server"]
    return (
        f"{machine['date']}. {machine['cpu']}, {machine['cpus']} processors, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB of memory; {machine['os']}; Python "
        f"{machine['python']}. PostgreSQL {server['server_version']}, embedded, on the same "
        f"machine: shared_buffers {server['shared_buffers']}, max_wal_size "
        f"{server['max_wal_size']}, synchronous_commit {server['synchronous_commit']}, fsync "
        f"{server['fsync']}, full_page_writes {server['full_page_writes']}, autovacuum "
        f"{server['autovacuum']}."
    )


def _command(settings: Record) -> str:
    ways, sizes_ = ",".join(settings["ways"]), ",".join(str(rows) for rows in settings["sizes"])
    return (
        f"SESSIONS={settings['sessions']} SIZES={sizes_} WAYS={ways} REPEAT={settings['repeat']} "
        f"SETTINGS={settings['profile']} make bench"
    )


def _alone_table(results: Results) -> str:
    head = ["way", "n", "wall s", "rows", "rows/s", "WAL B a row", "table MB", "indexes MB"]
    head += ["journal MB", "HOT %", "statement p50 ms", "p99 ms", "longest ms", "result"]
    rows = []
    for way in results["settings"]["ways"]:
        found = records(results, "alone", way)
        partly = bool(found) and found[0]["extrapolated"]
        shown = [
            figure_text(figure(found, "wall_seconds"), one_decimal, partly),
            figure_text(figure(found, "rows"), whole),
            figure_text(figure(found, "rows_per_second"), whole, partly),
        ]
        left = [
            figure_text(figure(found, "wal_bytes_per_row"), whole),
            *(
                figure_text(figure(found, f"{name}_bytes"), megabytes)
                for name in ("table", "index")
            ),
            figure_text(figure(found, "journal_bytes"), megabytes),
            figure_text(figure(found, "hot_percent"), whole),
            *(
                figure_text(figure(found, f"statement_{name}_ms"), milliseconds)
                for name in ("p50", "p99", "max")
            ),
        ]
        shown += [NOT_MEASURED] * len(left) if partly else left
        rows.append([label(way), str(len(found)), *shown, _same(found)])
    return table(head, rows, text_columns=(0, 13))


def _alone_notes(results: Results) -> list[str]:
    notes = []
    partial = [r for r in records(results, "alone") if r["extrapolated"]]
    if partial:
        share = results["settings"]["orm_share"] * 100
        notes.append(
            f"≈: extrapolated. The row-at-a-time loop was given {share:g} % of the rows "
            f"({partial[0]['rows']:,} rows, {_seconds(partial)} s) and its time multiplied; what a "
            "share of a run writes says nothing of the whole, so the other figures are left out."
        )
    again = figure(records(results, "alone", "skip-locked"), "details", "again_seconds")
    if again:
        notes.append(
            f"Of the time of {label('skip-locked')}, {figure_text(again, one_decimal)} s are the "
            "second way through the table."
        )
    engines = [_engine_note(results, way) for way in results["settings"]["ways"]]
    if any(engines):
        notes.append("\n".join(note for note in engines if note))
    if results.get("note"):  # somebody wrote into the JSON what a reader should know
        notes.append(results["note"])
    return notes


def _engine_note(results: Results, way: str) -> str:
    """What pgrunbook says of its own work, and where its time went."""
    found = records(results, "alone", way)
    if not found or not found[0]["parts_seconds"]:
        return ""
    parts = ", ".join(
        f"{name} {figure_text(figure(found, 'parts_seconds', name), one_decimal)} s"
        for name in found[0]["parts_seconds"]
    )
    sweeps = figure_text(figure(found, "details", "sweeps"), whole)
    return (
        f"- {label(way)}: {_strategy(found)}; {parts}; catch-up passes: {sweeps}; held back: "
        f"{figure_text(figure(found, 'details', 'held_seconds'), one_decimal)} s."
    )


def _strategy(found: Sequence[Record]) -> str:
    """What pgrunbook chose, such as "interleaved, 8 passes, 3 indexes deferred"."""
    if not found or not found[0]["details"]:
        return NOT_MEASURED
    strategy = found[0]["details"]["strategy"]
    if strategy["passes"] == 1:
        return str(strategy["name"])
    deferred = len(strategy["deferred"])
    return f"{strategy['name']}, {strategy['passes']} passes, {deferred} indexes deferred"


def _seconds(found: Sequence[Record]) -> str:
    return figure_text(figure(found, "seconds"), one_decimal)


def _rollback(results: Results) -> list[str]:
    """How fast pgrunbook gave back what it had filled; nothing where that was not measured."""
    head = [
        "way",
        "table rows",
        "n",
        "rows given back",
        "rows/s",
        "÷ fill's",
        "with indexes, rows/s",
    ]
    head += ["÷ whole run's", "WAL B a row", "result"]
    rows = []
    for sessions in sizes(results):
        for way in results["settings"]["ways"]:
            found = of_size(results, way, sessions)
            if any("rollback_ratio" in r or "rollback_failed" in r for r in found):
                figures = [
                    figure_text(figure(found, f"rollback_{name}"), show)
                    for name, show in _ROLLBACK_FIGURES.items()
                ]
                row = [label(way), f"{sessions:,}", str(len(found)), *figures]
                rows.append([*row, _as_before(found)])
    if not rows:
        return []
    note = (
        "Giving back follows in the same copy, after its comparison, with a plan and an approval "
        "of its own, which are not counted. Its rate stands beside that of the fill alone; with "
        "indexes and columns it stands beside that of the whole run. The result is as before "
        "where key and columns of all rows have the hash of the untouched data, as many rows were "
        "given back as were filled, and the indexes are those of before."
    )
    return ["## Rollback", table(head, rows, text_columns=(0, 9)), note]


_ROLLBACK_FIGURES: dict[str, Callable[[float], str]] = {
    "rows": whole,
    "rows_per_second": whole,
    "ratio": "{:.2f}".format,
    "whole_rows_per_second": whole,
    "whole_ratio": "{:.2f}".format,
    "wal_bytes_per_row": whole,
}


def _as_before(found: Sequence[Record]) -> str:
    failed = [r["rollback_failed"] for r in found if "rollback_failed" in r]
    if failed:
        return f"**FAILED**: {cell(failed[0])}"
    right = all(r["rollback_same_result"] and r["rollback_same_indexes"] for r in found)
    return "as before" if right else "**WRONG**"


def _application_table(results: Results) -> str:
    head = [
        "at work meanwhile",
        "n",
        "way's wall s",
        "held s",
        "transactions",
        "tps",
        "p50 ms",
        "p99 ms",
    ]
    head += ["max ms", "p99 ÷ unloaded", "failed", "result"]
    unloaded = records(results, "load", UNLOADED)
    first, last = _first_and_last(unloaded)
    base = figure(unloaded, "application", "p99_ms")
    shown = [("nothing, before", first)]
    shown += [
        (label(way), found)
        for way in results["settings"]["ways"]
        if (found := records(results, "load", way))
    ]
    shown.append(("nothing, afterwards", last))
    rows = []
    for what, found in shown:
        quotient = ratio(figure(found, "application", "p99_ms"), base)
        rows.append(
            [
                what,
                str(len(found)),
                figure_text(figure(found, "wall_seconds"), one_decimal),
                figure_text(figure(found, "details", "held_seconds"), one_decimal),
                figure_text(figure(found, "application", "transactions"), whole),
                figure_text(figure(found, "application", "tps"), whole),
                *(
                    figure_text(figure(found, "application", f"{name}_ms"), milliseconds)
                    for name in ("p50", "p99", "max")
                ),
                NOT_MEASURED if quotient is None else f"{quotient:,.2f}",
                figure_text(figure(found, "application", "failed"), whole),
                _same(found) if found and "same_result" in found[0] else NOT_MEASURED,
            ]
        )
    return table(head, rows, text_columns=(0, 11))


def _first_and_last(unloaded: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Each repetition measures the unloaded application twice: before the ways and after them."""
    return list(unloaded[0::2]), list(unloaded[1::2])


def _application_notes(results: Results) -> str:
    load = results["application"]
    return (
        f"pgbench, {load['clients']} clients, {load['transactions_per_second']} transactions a "
        "second by schedule: two sessions read by primary key, one read and updated in "
        "`risk_score`, all chosen at random. Latency counts from when a transaction was due, so "
        "one that queued behind a blocked one counts in full; all that were due while the way "
        "worked are counted, also those that ended later. tps is what ended meanwhile. The "
        "unloaded p99 of a ratio is the median of both. held is for how long pgrunbook stopped by "
        "itself, such as for sessions that waited for its locks."
    )


def _size_table(results: Results) -> str:
    head = ["rows of the table", "way", "n", "wall s", "rows/s", "strategy"]
    rows = []
    for sessions in sizes(results):
        for way in ("one-update", "engine-1"):
            found = of_size(results, way, sessions)
            row = [f"{sessions:,}", label(way), str(len(found))]
            row.append(figure_text(figure(found, "wall_seconds"), one_decimal))
            row.append(figure_text(figure(found, "rows_per_second"), whole))
            rows.append([*row, _strategy(found)])
    return table(head, rows, text_columns=(1, 5))


def _method(results: Results) -> str:
    times = results["settings"]["repeat"]
    many = "n is how often a figure was measured."
    if times > 1:
        many += " It is the median, with the least and the most in brackets."
    points = [
        "Every measurement has a fresh copy of the same invented data (`CREATE DATABASE … "
        "TEMPLATE`), in which each row has been read once through the primary key, and a "
        "checkpoint just before its clock starts. Renaming the column, planning and approving "
        "come before that.",
        "The result is right where a hash over key and columns of all rows equals that of one "
        "SELECT on the untouched data, the number of rows changed is that of the rows with "
        "something to gain, and the table has the same indexes as before. For the row-at-a-time "
        "loop: of the rows up to the last that it saw.",
        "The indexes on the three columns are in place throughout for all ways but pgrunbook, "
        "which drops those that it defers and builds them again within its time, as it does its "
        "journal, its catch-up passes and its VACUUM.",
        "pgrunbook's modules run in one process here. Ansible starts a Python for every call, "
        "which is not counted.",
        "A statement is what fills: the UPDATE, a batch's UPDATE, pgrunbook's batch; neither the "
        "lookup of the next key nor the building of an index. HOT % is the share of row versions "
        "that needed no new index entry.",
        "1 MB is 1,000,000 bytes. The journal is all of schema pgrunbook. Autovacuum is on.",
        many,
        *(PEERS[way] for way in results["settings"]["ways"] if way in PEERS),
    ]
    return "\n".join(f"- {point}" for point in points)


def _same(found: Sequence[Record]) -> str:
    if not found:
        return NOT_MEASURED
    partly = " (of its share)" if found[0]["extrapolated"] else ""
    return (
        f"right{partly}"
        if all(r["same_result"] and r["same_indexes"] for r in found)
        else "**WRONG**"
    )
