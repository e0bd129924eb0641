# SPDX-License-Identifier: GPL-3.0-or-later
"""The speed-up gate on real plans: processor time of parallel workers, and what is too close to
call."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL

from ansible.module_utils.pgrunbook.gates import processor_time
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

ROWS = 200
TOGETHER, ALONE = 2, 0  # workers that the planner takes for a table
NAP = """
CREATE FUNCTION nap() RETURNS bool LANGUAGE plpgsql VOLATILE PARALLEL SAFE COST 1000
AS 'BEGIN PERFORM pg_sleep(0.001); RETURN true; END'
"""
MAY_SLEEP = {"phase_acknowledged": ["pg_sleep()", "nap()"]}


@pytest.fixture
def parallel(any_database: Database) -> Database:
    """A database in which a parallel plan costs nothing."""
    for setting in (
        "parallel_setup_cost = 0",
        "parallel_tuple_cost = 0",
        "min_parallel_table_scan_size = 0",
        "max_parallel_workers_per_gather = 2",
        "enable_material = off",
    ):
        any_database.sql(f"ALTER DATABASE {any_database.name} SET {setting}")
    any_database.sql(NAP)
    return any_database


def make(database: Database, name: str, rows: int, *, workers: int) -> str:
    """A table of one row a page; a query that takes a nap at each row, so that the time of all who
    read it is the same together, however many they are."""
    options = f"fillfactor = 10, parallel_workers = {workers}"
    database.sql(f"CREATE TABLE {name} (n int, pad text) WITH ({options})")
    database.sql(f"INSERT INTO {name} SELECT n, repeat('x', 900) FROM generate_series(1, {rows}) n")
    database.sql(f"VACUUM (ANALYZE) {name}")
    return f"SELECT count(*) AS n FROM {name} WHERE nap()"


def measured(database: Database, query: str) -> processor_time.Measured:
    with database.connect() as conn:
        return processor_time.measured(conn, SQL(query))


def gate(module: Module, database: Database, phase: Phase, **of: Any) -> dict[str, Any]:
    """The gate of a pair of queries with that target."""
    query = {"name": "pair", "snapshot": of["snapshot"], "baseline": of["baseline"]}
    more = {"phase_queries": [query], "phase_speedup_min": of["least"], "phase_repetitions": 1}
    steps = Steps.of(module, database, {**phase, **MAY_SLEEP, **more, **of.get("more", {})})
    (found,) = steps.do("query_gates")["checks"]
    result: dict[str, Any] = found
    return result


def test_processor_time_is_that_of_the_leader_and_all_workers(parallel: Database) -> None:
    together = measured(parallel, make(parallel, "together", ROWS, workers=TOGETHER))
    alone = measured(parallel, make(parallel, "alone", ROWS, workers=ALONE))
    assert (together.workers, alone.workers) == (2, 0)
    assert alone.processor_ms == alone.ms > ROWS
    assert together.ms < 0.6 * alone.ms, "three share the work"
    assert 0.8 * alone.ms < together.processor_ms < 1.5 * alone.ms, "and do all of it"


def test_processor_time_of_a_gather_that_runs_again_and_again_is_that_of_all_its_runs(
    parallel: Database,
) -> None:
    naps = make(parallel, "together", ROWS, workers=TOGETHER)
    once = measured(parallel, naps)
    again = measured(
        parallel, f"SELECT * FROM generate_series(1, 3) x LEFT JOIN ({naps} OFFSET 0) q ON true"
    )
    assert again.workers == once.workers == 2
    assert 2.2 * once.processor_ms < again.processor_ms < 4 * once.processor_ms
    assert again.processor_ms > 2 * again.ms


@pytest.mark.parametrize(
    ("workers", "rows", "status", "decided"),
    [
        # 1.7 times sooner done than three who share five times the work
        ((ALONE, TOGETHER), (40, 210), "pass", "decided by buffers (the cache was warm)"),
        # three times sooner done, because three share the same work
        ((TOGETHER, ALONE), (200, 200), "fail", "decided by processor time (the cache was warm)"),
    ],
    ids=["the other query borrows processors", "the query borrows processors"],
)
def test_where_buffers_decide_processor_time_has_to_be_halved(
    parallel: Database,
    module: Module,
    phase: Phase,
    workers: tuple[int, int],
    rows: tuple[int, int],
    status: str,
    decided: str,
) -> None:
    snapshot = make(parallel, "ours", rows[0], workers=workers[0])
    baseline = make(parallel, "theirs", rows[1], workers=workers[1])
    make(parallel, "pages", 4000 if workers[0] else 1, workers=ALONE)
    same = "SELECT q.n > 0 FROM ({}) q"
    found = gate(
        module,
        parallel,
        phase,
        snapshot=same.format(snapshot),
        baseline=f"{same.format(baseline)}, (SELECT count(*) AS n FROM pages) p WHERE p.n > 0",
        least=5,
    )
    pair = found["evidence"]
    assert (found["status"], pair["equal"]) == (status, True), found["measured"]
    assert decided in found["measured"]
    assert pair["snapshot"]["workers"] == workers[0]
    assert pair["baseline"]["workers"] == workers[1]


FLIPS = """
SELECT count(pg_sleep(CASE WHEN set_config('test.flips',
  (coalesce(nullif(current_setting('test.flips', true), ''), '0')::int + 1)::text, false)::int % 2
  = 0 THEN 0.02 ELSE 0.001 END))
"""


def test_what_is_too_close_to_call_is_measured_again_and_missed(
    database: Database, module: Module, phase: Phase
) -> None:
    """Every other run is twenty times as long, so nobody can say which is the usual one."""
    may = {"phase_acknowledged": [*MAY_SLEEP["phase_acknowledged"], "set_config()"]}
    naps = "SELECT count(pg_sleep(0.001))"
    found = gate(module, database, phase, snapshot=naps, baseline=FLIPS, least=5, more=may)
    pair = found["evidence"]
    assert found["status"] == "fail" and pair["runs"] == 60
    assert "too close to call after 60 runs, because of time" in found["measured"]
    low, high = pair["time_interval"]
    assert low < 5 < high


@pytest.mark.representative
def test_what_is_clear_is_measured_no_more_often_than_asked_for(
    database: Database, module: Module, phase: Phase
) -> None:
    naps = "SELECT count(pg_sleep({}))"
    ours, theirs = naps.format(0.001), naps.format(0.02)
    least = {"snapshot": ours, "baseline": theirs, "least": 2}
    found = gate(module, database, phase, **least)
    assert (found["status"], found["evidence"]["runs"]) == ("pass", 6)
    found = gate(module, database, phase, **least, more={"phase_repetitions": 8})
    assert (found["status"], found["evidence"]["runs"]) == ("pass", 8)
