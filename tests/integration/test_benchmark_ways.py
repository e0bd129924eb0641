# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's ways fill the same, its rollback gives back all, and what fails is stored."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from benchmarks import results, rollback, scale, ways
from benchmarks.database import Cluster
from benchmarks.database import Database as Copy
from benchmarks.settings import SCALE, Settings, read
from benchmarks.watch import longest_transaction
from benchmarks.ways import Engine, Way, factory
from tests.integration.conftest import Database
from tests.integration.servers import started
from tests.integration.test_throttle import until

LACKING = """
FROM session_summaries JOIN ip_inventory ON source_ip = ip_address
WHERE snapshot_asn IS NULL AND current_asn IS NOT NULL
"""
WAITING = """
SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
def copy(database: Database) -> Copy:
    """The drifted database, as the benchmark sees it."""
    return Copy(database.server, database.name)


def fill(way: Way) -> int:
    """The number of rows that the way filled, which has to be all, with the right values."""
    expected = way.database.expected()
    way.prepare()
    rows, found = way.work(), way.database.found()
    assert (found.hash, found.rows, rows) == (expected.hash, expected.rows, expected.eligible)
    return rows


def test_a_way_that_skips_what_is_locked_fills_it_in_the_end(
    database: Database, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "SKIP_LOCKED_ROWS", 100)
    expected, way = copy.expected(), factory("skip-locked", 0)(copy)
    way.prepare()
    with database.connect() as holder, ThreadPoolExecutor(1) as pool:
        with holder.transaction():
            holder.execute(f"SELECT {LACKING} LIMIT 3 FOR UPDATE OF session_summaries")
            work = pool.submit(way.work)
            until(lambda: bool(database.sql(WAITING)))
            assert database.sql(f"SELECT count(*) AS n {LACKING}") == [{"n": 3}]
        assert work.result() == expected.eligible
    assert copy.found().hash == expected.hash
    assert way.details["again_seconds"] > 0
    assert len(way.statement_ms) == -(-(expected.eligible - 3) // 100) + 1


def test_a_way_with_pauses_fills_the_same_and_pauses(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "PAUSED_ROWS", 500)
    monkeypatch.setattr(ways, "PAUSE_S", 0.1)
    way = factory("paused", 0)(copy)
    started_at = time.perf_counter()
    fill(way)
    assert len(way.statement_ms) == 6
    assert time.perf_counter() - started_at > 0.6


def test_pgrunbook_gives_back_what_it_filled(copy: Copy) -> None:
    untouched, indexes = copy.untouched(), copy.indexes()
    engine = factory("engine-interleaved", 0)(copy)
    assert isinstance(engine, Engine)
    rows = fill(engine)
    assert engine.details["strategy"]["deferred"]
    rollback.plan(engine)
    given = rollback.give_back(engine)
    assert (given.rows, given.rows_left_alone) == (rows, 0)
    assert list(given.parts) == ["drop", "rows", "indexes", "columns"]
    assert (copy.untouched(), copy.indexes()) == (untouched, indexes)


@pytest.mark.parametrize(("statement", "seen"), [("SELECT 1", True), ("CREATE INDEX", False)])
def test_the_longest_transaction_is_seen_unless_it_builds_an_index(
    database: Database, copy: Copy, statement: str, seen: bool
) -> None:
    login = {**database.login, "application_name": "pgrunbook/test"}
    last = statement if seen else f"{statement} ON ip_inventory (is_scanner)"
    with psycopg.connect(**login) as conn, longest_transaction(copy) as longest:
        conn.execute(last)
        time.sleep(0.5)
        conn.rollback()
    assert (longest.query, longest.failed) == (last if seen else "", "")
    assert (0.2 < longest.seconds < 5) == seen


def settings(folder: Path, *sizes: int) -> Settings:
    return replace(read(SCALE, {}), sizes=sizes, folder=folder)


def test_a_run_of_a_size_is_measured_step_by_step_and_what_has_no_room_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(scale, "DISK_BYTES_A_ROW", free // 1000)
    with started("bench") as (server, _):
        cluster = Cluster(server)
        scale.measure(settings(tmp_path, 2000, 600), cluster, lambda _: None)
        with psycopg.connect(cluster._conninfo()) as conn:
            left = conn.execute(
                "SELECT datname FROM pg_database WHERE NOT datistemplate"
            ).fetchall()
    assert left == [("postgres",)]
    small, large = results.load(tmp_path, scale.FILE_NAME)["measurements"]
    assert (small["sessions"], small["failed"]) == (600, "")
    assert list(small["steps"]) == list(scale.STEPS)
    for step in small["steps"].values():
        assert 30e6 < step["peak_bytes"] < 500e6 and step["seconds"] > 0
        assert step["longest_transaction"]["failed"] == ""
    fill, back = small["steps"]["backfill"], small["steps"]["rollback"]
    assert fill["same_result"] and back["same_result"]
    assert fill["rows"] == back["rows"] == small["steps"]["dry run"]["rows_eligible"]
    assert large["failed"].startswith("data: it takes about") and large["steps"] == {}


def test_a_step_that_fails_is_stored_with_its_reason_and_ends_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "STEPS", ["dry run", "no such step", "backfill"])
    with started("bench") as (server, _):
        found = scale.measure(settings(tmp_path, 500), Cluster(server), lambda _: None)
    record = found["measurements"][0]
    assert record["failed"] == "no such step: KeyError: 'no such step'"
    assert list(record["steps"]) == ["dry run"]
