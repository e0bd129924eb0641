# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of pgrunbook costs by the size of the table: time, memory, space, transactions.

Each size has a database of its own, which is dropped afterwards: a copy would double the space.
What fails is stored as that, and the next size goes on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psycopg

from benchmarks import machine, results
from benchmarks.database import Cluster, Database, Fingerprint
from benchmarks.modules import ROOT
from benchmarks.settings import Settings
from benchmarks.step import STEPS
from benchmarks.watch import longest_transaction

FILE_NAME = "benchmark-sizes.json"
DISK_BYTES_A_ROW = 1_200
"""What data, indexes, temporary files, journal and the rollback's row versions take at most."""

WAL_BYTES_A_ROW = 2_300
WAL_BYTES_MAX = 10_000_000_000
"""What WAL takes besides: checkpoints keep it near max_wal_size, which is 8 GiB at most here."""

Say = Callable[[str], None]


class StepFailed(Exception):
    """A step did not come to its end; the message says which, and why."""


def measure(settings: Settings, server: Cluster, say: Say) -> results.Results:
    """Every size, the smallest first; everything so far is stored after each."""
    found: results.Results = {
        "machine": machine.describe(),
        "server": server.settings(),
        "settings": {
            "sizes": sorted(settings.sizes),
            "way": settings.ways[0],
            "profile": settings.profile,
        },
        "measurements": [],
    }
    for sessions in sorted(settings.sizes):
        record: results.Record = {"sessions": sessions, "failed": "", "at": "data", "steps": {}}
        try:
            _run(settings, server, record, say)
        except (StepFailed, psycopg.Error, OSError, ValueError) as error:
            record["failed"] = f"{record['at']}: {error}"
            say(f"{sessions:>11,} rows  FAILED at {record['failed']}")
        found["measurements"].append(record)
        results.save(found, settings.folder, FILE_NAME)
    return found


def _run(settings: Settings, server: Cluster, record: results.Record, say: Say) -> None:
    """One size; record grows as far as it comes."""
    sessions, way, state = record["sessions"], settings.ways[0], dict[str, Any]()
    _require_room(settings, sessions)
    say(f"{sessions:>11,} rows  making the data")
    started = time.perf_counter()
    with server.scratch(sessions) as database:
        record |= {"data_seconds": time.perf_counter() - started, "before": database.sizes()}
        data = _Data.of(database)
        for step in STEPS:
            record["at"] = step
            server.checkpoint()
            found = _step(step, way, database, state, server)
            state = found.pop("state")
            record["steps"][step] = found
            say(f"{sessions:>11,} rows  {step}: {_line(found)}")
            if step == "backfill":
                record["after"] = database.sizes()
                found["same_result"] = data.filled(database, found["rows"])
            if step == "rollback":
                record["after_rollback"] = database.sizes()
                found["same_result"] = data.given_back(database, found["rows"])


@dataclass(frozen=True)
class _Data:
    """What the table holds before a run, and what the run has to make of it."""

    untouched: Fingerprint
    indexes: list[str]
    expected: Fingerprint
    renamed_indexes: list[str]

    @classmethod
    def of(cls, database: Database) -> _Data:
        return cls(
            database.untouched(),
            database.indexes(),
            database.expected(),
            database.renamed_indexes(),
        )

    def filled(self, database: Database, rows: int) -> bool:
        """Whether all rows that could gain a value have, and no other."""
        found, wanted = database.found(), self.expected
        same = (found.hash, found.rows, rows) == (wanted.hash, wanted.rows, wanted.eligible)
        return same and database.renamed_indexes() == self.renamed_indexes

    def given_back(self, database: Database, rows: int) -> bool:
        """Whether all is as it was."""
        same = (database.untouched(), rows) == (self.untouched, self.expected.eligible)
        return same and database.indexes() == self.indexes


def _require_room(settings: Settings, sessions: int) -> None:
    wal = min(sessions * WAL_BYTES_A_ROW, WAL_BYTES_MAX)
    needed, free = sessions * DISK_BYTES_A_ROW + wal, shutil.disk_usage(settings.folder).free
    if needed > free:
        raise StepFailed(
            f"it takes about {needed / 1e9:.0f} GB of disk, and {settings.folder} has "
            f"{free / 1e9:.0f} GB. Next step: set BENCH_DIR to a folder with more room"
        )


def _step(
    step: str, way: str, database: Database, state: dict[str, Any], server: Cluster
) -> dict[str, Any]:
    """What the step found in its process, the WAL of it, and the longest transaction meanwhile."""
    asked = {
        "step": step,
        "way": way,
        "server": {**asdict(database.server), "bin_dir": str(database.server.bin_dir)},
        "database": database.name,
        "state": state,
    }
    wal = server.wal_position()
    with longest_transaction(database) as longest:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.step"],
            cwd=ROOT,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
        )
    if ended.returncode:
        raise StepFailed(f"its process ended with {ended.returncode}\n{ended.stderr}")
    found: dict[str, Any] = json.loads(ended.stdout)
    if "failed" in found:
        raise StepFailed(found["failed"])
    found["wal_bytes"] = server.wal_position() - wal
    return found | {"longest_transaction": asdict(longest)}


def _line(found: dict[str, Any]) -> str:
    rate = f"  {found['rows'] / found['seconds']:,.0f} rows/s" if "rows" in found else ""
    return (
        f"{found['seconds']:,.1f} s{rate}  {found['peak_bytes'] / 1e6:,.0f} MB of memory  longest "
        f"transaction {found['longest_transaction']['seconds']:,.1f} s"
    )
