# SPDX-License-Identifier: GPL-3.0-or-later
"""benchmark.md: the figures as tables, and the targets with how far each is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import plot
from benchmarks.results import (
    FILE_NAME,
    UNLOADED,
    Figure,
    Record,
    Results,
    figure,
    of_size,
    ratio,
    records,
    sizes,
)
from benchmarks.ways import label

FILES = (FILE_NAME, "benchmark.md", "benchmark.svg")
ENGINES = ("engine-1", "engine-2")
NOT_MEASURED = "–"

MEGABYTE = 1e6


@dataclass(frozen=True)
class Target:
    """A quantity against another, by their medians, and the limit of that ratio."""

    text: str
    way: str
    part: Figure | None
    whole: Figure | None
    limit: float
    at_most: bool = True

    @property
    def ratio(self) -> float | None:
        """The ratio, or None where one of the two was not measured."""
        return ratio(self.part, self.whole)

    @property
    def counts(self) -> str:
        """How often the two were measured."""
        return f"{_count(self.part)} ÷ {_count(self.whole)}"

    @property
    def verdict(self) -> str:
        """met or missed, and by how many per cent of the limit."""
        if self.ratio is None:
            return "not measured"
        distance = f"{abs(self.ratio / self.limit - 1) * 100:.0f} %"
        side = "under" if self.ratio <= self.limit else "over"
        met = self.ratio <= self.limit if self.at_most else self.ratio >= self.limit
        return f"{'met' if met else '**missed**'}, {distance} {side}"


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
        _target_table(targets(results)),
        "## Each way alone",
        _alone_table(results),
        *_alone_notes(results),
        "## With an application at work",
        _application_table(results),
        _application_notes(results),
        "## By size",
        _size_table(results),
        "## How it is measured",
        _method(results),
    ]
    return "\n\n".join(blocks) + "\n"


def targets(results: Results) -> list[Target]:
    """Every target, for one worker and for two."""

    def alone(way: str, name: str) -> Figure | None:
        return figure(records(results, "alone", way), name)

    def latency(way: str) -> Figure | None:
        return figure(records(results, "load", way), "application", "p99_ms")

    found = []
    for way in ENGINES:
        for text, name, other, limit in (
            ("wall time ÷ one UPDATE's", "wall_seconds", "one-update", 0.65),
            ("wall time ÷ keyset's", "wall_seconds", "keyset", 0.4),
            ("WAL a row ÷ one UPDATE's", "wal_bytes_per_row", "one-update", 0.68),
            ("table after ÷ one UPDATE's", "table_bytes", "one-update", 0.62),
        ):
            found.append(Target(text, way, alone(way, name), alone(other, name), limit))
        found.append(
            Target("application's p99 ÷ unloaded", way, latency(way), latency(UNLOADED), 1.5)
        )
    return [*found, _flatness(results)]


def _flatness(results: Results) -> Target:
    full = results["settings"]["sessions"]

    def rate(rows: int) -> Figure | None:
        return figure(of_size(results, "engine-1", rows), "rows_per_second")

    text = f"rows/s at {full:,} rows ÷ at 100,000"
    return Target(text, "engine-1", rate(full), rate(100_000), 0.8, at_most=False)


def _about(results: Results) -> list[str]:
    machine, server, settings = results["machine"], results["server"], results["settings"]
    times = "once" if settings["repeat"] == 1 else f"{settings['repeat']} times"
    return [
        f"{settings['sessions']:,} sessions; every way was measured {times}. The command was "
        f"`{_command(settings)}`; `python -m benchmarks.run report` writes this page again from "
        "[benchmark.json](benchmark.json).",
        f"{machine['date']}. {machine['cpu']}, {machine['cpus']} processors, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB of memory; {machine['os']}; Python "
        f"{machine['python']}. PostgreSQL {server['server_version']}, embedded, on the same "
        f"machine: shared_buffers {server['shared_buffers']}, max_wal_size "
        f"{server['max_wal_size']}, synchronous_commit {server['synchronous_commit']}, fsync "
        f"{server['fsync']}, full_page_writes {server['full_page_writes']}, autovacuum "
        f"{server['autovacuum']}.",
    ]


def _command(settings: Record) -> str:
    ways, sizes_ = ",".join(settings["ways"]), ",".join(str(rows) for rows in settings["sizes"])
    return (
        f"SESSIONS={settings['sessions']} SIZES={sizes_} WAYS={ways} REPEAT={settings['repeat']} "
        f"SETTINGS={settings['profile']} make bench"
    )


def _target_table(found: Sequence[Target]) -> str:
    rows = [
        [
            target.text,
            label(target.way),
            f"{'≤' if target.at_most else '≥'} {target.limit:g}",
            NOT_MEASURED if target.ratio is None else f"{target.ratio:.2f}",
            target.counts,
            target.verdict,
        ]
        for target in found
    ]
    return _table(["", "way", "target", "measured", "n", ""], rows, text_columns=(0, 1, 5))


def _alone_table(results: Results) -> str:
    head = ["way", "n", "wall s", "rows", "rows/s", "WAL B a row", "table MB", "indexes MB"]
    head += ["journal MB", "HOT %", "statement p50 ms", "p99 ms", "longest ms", "result"]
    rows = []
    for way in results["settings"]["ways"]:
        found = records(results, "alone", way)
        partly = bool(found) and found[0]["extrapolated"]
        shown = [
            _text(figure(found, "wall_seconds"), _one_decimal, partly),
            _text(figure(found, "rows"), _whole),
            _text(figure(found, "rows_per_second"), _whole, partly),
        ]
        left = [
            _text(figure(found, "wal_bytes_per_row"), _whole),
            *(_text(figure(found, f"{name}_bytes"), _megabytes) for name in ("table", "index")),
            _text(figure(found, "journal_bytes"), _megabytes),
            _text(figure(found, "hot_percent"), _whole),
            *(_text(figure(found, f"statement_{name}_ms"), _ms) for name in ("p50", "p99", "max")),
        ]
        shown += [NOT_MEASURED] * len(left) if partly else left
        rows.append([label(way), str(len(found)), *shown, _same(found)])
    return _table(head, rows, text_columns=(0, 13))


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
        f"{name} {_text(figure(found, 'parts_seconds', name), _one_decimal)} s"
        for name in found[0]["parts_seconds"]
    )
    sweeps = _text(figure(found, "details", "sweeps"), _whole)
    return (
        f"- {label(way)}: {_strategy(found)}; {parts}; catch-up passes: {sweeps}; held back: "
        f"{_text(figure(found, 'details', 'held_seconds'), _one_decimal)} s."
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
    return _text(figure(found, "seconds"), _one_decimal)


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
                _text(figure(found, "wall_seconds"), _one_decimal),
                _text(figure(found, "details", "held_seconds"), _one_decimal),
                _text(figure(found, "application", "transactions"), _whole),
                _text(figure(found, "application", "tps"), _whole),
                *(
                    _text(figure(found, "application", f"{name}_ms"), _ms)
                    for name in ("p50", "p99", "max")
                ),
                NOT_MEASURED if quotient is None else f"{quotient:,.2f}",
                _text(figure(found, "application", "failed"), _whole),
                _same(found) if found and "same_result" in found[0] else NOT_MEASURED,
            ]
        )
    return _table(head, rows, text_columns=(0, 11))


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
            row.append(_text(figure(found, "wall_seconds"), _one_decimal))
            row.append(_text(figure(found, "rows_per_second"), _whole))
            rows.append([*row, _strategy(found)])
    return _table(head, rows, text_columns=(1, 5))


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
        "The indexes on the three columns are in place throughout for the UPDATE, the "
        "keyset and the row-at-a-time loop. pgrunbook drops those that it defers and builds them "
        "again within its time, as it does its journal, its catch-up passes and its VACUUM.",
        "pgrunbook's modules run in one process here. Ansible starts a Python for every call, "
        "which is not counted.",
        "A statement is what fills: the UPDATE, a batch's UPDATE, pgrunbook's batch; neither the "
        "lookup of the next key nor the building of an index. HOT % is the share of row versions "
        "that needed no new index entry.",
        "1 MB is 1,000,000 bytes. The journal is all of schema pgrunbook. Autovacuum is on.",
        many,
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


def _text(found: Figure | None, show: Callable[[float], str], extrapolated: bool = False) -> str:
    if found is None:
        return NOT_MEASURED
    text = f"{'≈ ' if extrapolated else ''}{show(found.median)}"
    least, most = show(found.least), show(found.most)
    return text if least == most else f"{text} ({least}–{most})"


def _count(found: Figure | None) -> int:
    return found.count if found else 0


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _one_decimal(value: float) -> str:
    return f"{value:,.1f}"


def _ms(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _megabytes(value: float) -> str:
    return _whole(value / MEGABYTE)


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int]
) -> str:
    """A Markdown table that reads well as plain text too."""
    widths = [max(3, *(len(row[n]) for row in [head, *rows])) for n in range(len(head))]
    lines = [head, *rows]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if n in text_columns else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append(f"| {' | '.join(cells)} |")
    rule = [
        "-" * width if n in text_columns else "-" * (width - 1) + ":"
        for n, width in enumerate(widths)
    ]
    return "\n".join([text[0], f"| {' | '.join(rule)} |", *text[1:]])
