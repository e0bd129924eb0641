# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's command line.

    python -m benchmarks.run           measure; write benchmark.json, benchmark.md, benchmark.svg
    python -m benchmarks.run report    write the last two again, from the first
    python -m benchmarks.run sizes     one run of pgrunbook a size, step by step; write
                                       benchmark-sizes.json, benchmark-sizes.md, benchmark-sizes.svg
    python -m benchmarks.run clean     stop the server and delete its data

Environment variables, with their defaults:

    SESSIONS=1682827              rows of the table
    SIZES=10000,100000,300000     smaller tables, for the rate by size; "sizes" takes
                                  SIZES=100000,1000000,4000000,16000000 and one of pgrunbook's WAYS,
                                  engine-1, and of the others SETTINGS, OUT and BENCH_DIR
    WAYS=one-update,keyset,skip-locked,paused,orm,engine-1,engine-2
                                  also engine-interleaved, engine-ranges, engine-keyset; and
                                  engine-1@20 for batches of 20 ms, engine-1@commit=5 for
                                  shorter ones where a commit beside them takes over 5 ms
    REPEAT=1                      measure everything so often; medians are reported
    SETTINGS=production           or defaults: PostgreSQL's own
    BASELINE_SECONDS=60           how long the application is measured with nothing else at work
    ORM_SHARE=0.02                the share of the rows that the row-at-a-time loop is given
    OUT=docs                      where the results go
    BENCH_DIR=.bench              where the server keeps its data, and the results so far
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import machine, report, results, rollback, scale, scale_report
from benchmarks.database import Cluster, Database, Fingerprint, cluster, delete
from benchmarks.load import CLIENTS, RATE, application, percentile
from benchmarks.settings import MEASURE, SCALE, Settings, read
from benchmarks.ways import LABELS, Engine, Factory, RowAtATime, Way, factory, label
from demo.server import ServerError

SIZE_WAYS = ("one-update", "engine-1")
"""The ways that are measured on the smaller tables too."""

NO_LOAD_WAYS = ("orm",)
"""The ways that are not measured with the application: a share of a run says nothing of it."""


class Benchmark:
    """The measurements, one after the other; everything so far is stored after each."""

    def __init__(self, settings: Settings, server: Cluster) -> None:
        self.settings = settings
        self.cluster = server
        self.templates: dict[int, tuple[Database, Fingerprint]] = {}
        self.started = time.monotonic()
        self.results: results.Results = {
            "machine": machine.describe(),
            "server": server.settings(),
            "settings": {k: v for k, v in asdict(settings).items() if k not in ("out", "folder")},
            "application": {"clients": CLIENTS, "transactions_per_second": RATE},
            "measurements": [],
        }

    def measure_all(self) -> None:
        """Every repetition in turn, so that a drift of the machine meets all ways alike."""
        for repetition in range(1, self.settings.repeat + 1):
            self._say(f"repetition {repetition} of {self.settings.repeat}")
            self._alone(repetition)
            self._by_size(repetition)
            self._under_load(repetition)

    def _alone(self, repetition: int) -> None:
        for way in self.settings.ways:
            self._measure("alone", way, self.settings.sessions, repetition)

    def _by_size(self, repetition: int) -> None:
        for sessions in self.settings.sizes:
            for way in SIZE_WAYS:
                if way in self.settings.ways and sessions != self.settings.sessions:
                    self._measure("size", way, sessions, repetition)

    def _under_load(self, repetition: int) -> None:
        self._baseline(repetition)
        for way in self.settings.ways:
            if way not in NO_LOAD_WAYS:
                self._measure("load", way, self.settings.sessions, repetition)
        self._baseline(repetition)

    def _measure(self, part: str, way: str, sessions: int, repetition: int) -> None:
        name = f"{sessions:>9,} rows  {label(way)}{' with load' if part == 'load' else ''}"
        template, expected = self._template(sessions)
        self._say(f"{name}: copying")
        with self.cluster.copy(template) as copy:
            made = self._factory(way, expected)(copy)
            made.prepare()
            copy.warm()
            self.cluster.checkpoint()
            self._say(f"{name}: at work")
            if part == "load":
                record = self._timed_under_load(made, copy, sessions)
            else:
                record = self._timed(made)
            self._say(f"{name}: comparing")
            made.finish()
            record |= _outcome(made, copy, template, expected, record)
            if isinstance(made, Engine) and part != "load":
                self._say(f"{name}: giving back")
                record |= self._given_back(made, copy, template, record)
        record = {"part": part, "way": way, "sessions": sessions, "repetition": repetition} | record
        self._store(record)
        self._say(f"{name}: {_line(record)}")

    def _baseline(self, repetition: int) -> None:
        """The application with nothing else at work."""
        sessions = self.settings.sessions
        template, _ = self._template(sessions)
        self._say(f"{sessions:>9,} rows  application alone: {self.settings.baseline_seconds} s")
        with self.cluster.copy(template) as copy:
            copy.warm()
            self.cluster.checkpoint()
            with application(copy, sessions) as load:
                started = time.time()
                time.sleep(self.settings.baseline_seconds)
                measured = load.measure(started, time.time())
        record = {"part": "load", "way": results.UNLOADED, "sessions": sessions}
        record |= {"repetition": repetition, "application": measured}
        self._store(record)
        self._say(f"{sessions:>9,} rows  application alone: {_application_line(record)}")

    def _timed(self, way: Way) -> results.Record:
        wal, started = self.cluster.wal_position(), time.perf_counter()
        rows = way.work()
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "rows": rows,
            "wal_bytes": self.cluster.wal_position() - wal,
        }

    def _given_back(
        self, engine: Engine, copy: Database, template: Database, filled: results.Record
    ) -> results.Record:
        """How fast the rollback was, beside the fill, and whether all is as before the fill."""
        try:
            rollback.plan(engine)
            self.cluster.checkpoint()
            wal = self.cluster.wal_position()
            given = rollback.give_back(engine)
        except (RuntimeError, psycopg.Error) as error:
            return {"rollback_failed": str(error)}
        wal = self.cluster.wal_position() - wal
        return rollback_figures(given, filled, wal) | {
            "rollback_same_result": copy.untouched() == template.untouched()
            and given.rows == filled["rows"],
            "rollback_same_indexes": copy.indexes() == template.indexes(),
        }

    def _timed_under_load(self, way: Way, copy: Database, sessions: int) -> results.Record:
        with application(copy, sessions) as load:
            started = time.time()
            record = self._timed(way)
            record["application"] = load.measure(started, started + record["seconds"])
        return record

    def _template(self, sessions: int) -> tuple[Database, Fingerprint]:
        """The data of that size, and what the table has to hold in the end."""
        if sessions not in self.templates:
            self._say(f"{sessions:>9,} rows  building the data, unless it is there")
            template = self.cluster.template(sessions)
            self.templates[sessions] = (template, template.expected())
        return self.templates[sessions]

    def _factory(self, way: str, expected: Fingerprint) -> Factory:
        return factory(way, max(round(expected.eligible * self.settings.orm_share), 1))

    def _store(self, record: results.Record) -> None:
        self.results["measurements"].append(record)
        results.save(self.results, self.settings.folder)

    def _say(self, text: str) -> None:
        _say(self.started, text)


def _outcome(
    way: Way, copy: Database, template: Database, expected: Fingerprint, timed: results.Record
) -> results.Record:
    """What the way left behind, and whether it is right."""
    partly = isinstance(way, RowAtATime)
    wanted = template.expected(way.last_key) if partly else expected
    found = copy.found(way.last_key)
    rows = timed["rows"]
    return {
        "extrapolated": partly,
        "wall_seconds": timed["seconds"] * (expected.eligible / rows if partly and rows else 1),
        "rows_eligible": wanted.eligible,
        "rows_per_second": rows / timed["seconds"],
        "wal_bytes_per_row": timed["wal_bytes"] / rows if rows else None,
        **copy.sizes(),
        "hot_percent": copy.hot_percent(rows),
        "statements": len(way.statement_ms),
        "statement_p50_ms": percentile(way.statement_ms, 50),
        "statement_p99_ms": percentile(way.statement_ms, 99),
        "statement_max_ms": max(way.statement_ms, default=None),
        "parts_seconds": way.parts,
        "details": way.details,
        "fingerprint": found.hash,
        "same_result": found.hash == wanted.hash
        and found.rows == wanted.rows
        and rows == wanted.eligible,
        "same_indexes": copy.renamed_indexes() == template.renamed_indexes(),
    }


def rollback_figures(
    given: rollback.Rollback, filled: results.Record, wal_bytes: int
) -> results.Record:
    """Rates of giving back, alone and with indexes and columns, and each ÷ that of the fill."""
    whole = sum(given.parts.values())
    alone_rate, whole_rate = given.rows / given.parts["rows"], given.rows / whole
    fill_rate = filled["rows"] / filled["parts_seconds"]["fill"]
    return {
        "rollback_rows": given.rows,
        "rollback_rows_left_alone": given.rows_left_alone,
        "rollback_seconds": whole,
        "rollback_parts_seconds": given.parts,
        "rollback_rows_per_second": alone_rate,
        "rollback_ratio": alone_rate / fill_rate,
        "rollback_whole_rows_per_second": whole_rate,
        "rollback_whole_ratio": whole_rate / filled["rows_per_second"],
        "rollback_wal_bytes_per_row": wal_bytes / given.rows if given.rows else None,
    }


def _line(record: results.Record) -> str:
    mark = "≈ " if record["extrapolated"] else ""
    same = "same result" if record["same_result"] else "ANOTHER RESULT"
    if not record["same_indexes"]:
        same = "OTHER INDEXES"
    line = (
        f"{mark}{record['wall_seconds']:,.1f} s  {record['rows_per_second']:,.0f} rows/s"
        f"  {record['wal_bytes_per_row'] or 0:,.0f} B WAL a row"
        f"  table {record['table_bytes'] / 1e6:,.0f} MB  HOT {record['hot_percent']:.0f} %  {same}"
    )
    if "rollback_failed" in record:
        line += f"\n        ROLLBACK FAILED: {record['rollback_failed']}"
    if "rollback_rows_per_second" in record:
        right = record["rollback_same_result"] and record["rollback_same_indexes"]
        line += (
            f"\n        rollback: {record['rollback_rows_per_second']:,.0f} rows/s, "
            f"{record['rollback_ratio']:.2f} × the fill's  "
            f"{'as before' if right else 'NOT AS BEFORE'}"
        )
    return f"{line}\n        {_application_line(record)}" if "application" in record else line


def _application_line(record: results.Record) -> str:
    measured: dict[str, Any] = record["application"]
    times = [
        f"{name} {measured[f'{name}_ms']:,.1f} ms"
        for name in ("p50", "p99", "max")
        if measured[f"{name}_ms"] is not None
    ]
    return (
        f"application: {', '.join(times)}  {measured['tps']:,.0f} tps  {measured['failed']} failed"
    )


def measure(settings: Settings) -> None:
    """The whole benchmark, and its report. The results so far survive a failure, in the folder."""
    for way in settings.ways:
        try:
            label(way)
        except (KeyError, ValueError):
            raise ValueError(
                f"WAYS knows {', '.join(LABELS)}, engine-1@20 for batches of 20 ms, and "
                f"engine-1@commit=5 for commits beside it of at most 5 ms, not {way!r}"
            ) from None
    with cluster(settings.folder, settings.profile) as server:
        benchmark = Benchmark(settings, server)
        benchmark.measure_all()
    results.save(benchmark.results, settings.out)
    _report(settings.out)


def measure_sizes(settings: Settings) -> None:
    """One run a size, and its report; what is done survives a failure, in the folder."""
    name = settings.ways[0].partition("@")[0]
    if len(settings.ways) > 1 or not name.startswith("engine-") or name not in LABELS:
        raise ValueError(f"sizes takes one of pgrunbook's WAYS, not {','.join(settings.ways)}")
    started = time.monotonic()
    with cluster(settings.folder, settings.profile) as server:
        found = scale.measure(settings, server, lambda text: _say(started, text))
    results.save(found, settings.out, scale.FILE_NAME)
    _report(settings.out, scale_report)


def _say(started: float, text: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    print(f"{minutes:3}:{seconds:02}  {text}", flush=True)


def _report(folder: Path, page: Any = report) -> None:
    """Write what follows from the first of a page's files: report, or scale_report."""
    found = results.load(folder, page.FILES[0])
    text = page.write(found, folder)
    print(f"\n{text}\nwritten: {', '.join(str(folder / name) for name in page.FILES)}")


def _report_again(folder: Path) -> None:
    there = [page for page in (report, scale_report) if (folder / page.FILES[0]).exists()]
    if not there:
        raise FileNotFoundError(f"{folder} has neither {' nor '.join(_RESULT_FILES)}")
    for page in there:
        _report(folder, page)


_RESULT_FILES = (report.FILES[0], scale_report.FILES[0])


def _end(*_: object) -> None:
    sys.exit(143)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", nargs="?", default="measure", choices=["measure", "report", "sizes", "clean"]
    )
    command = parser.parse_args(argv).command
    signal.signal(signal.SIGTERM, _end)
    try:
        settings = read(SCALE if command == "sizes" else MEASURE)
        if command == "clean":
            print("deleted" if delete(settings.folder) else "there was nothing to delete")
        elif command == "report":
            _report_again(settings.out)
        elif command == "sizes":
            measure_sizes(settings)
        else:
            measure(settings)
    except (ServerError, ValueError, FileNotFoundError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark: interrupted; the server is stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
