# SPDX-License-Identifier: GPL-3.0-or-later
"""Both results of a pair of queries are of one moment, whatever others write meanwhile."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

COUNT = "SELECT count(*) FROM {table} WHERE matcher = 'late'"
WAITS = """
SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def pair(snapshot: str, baseline: str) -> dict[str, Any]:
    """A phase's variables with one pair of queries, which any speed-up satisfies."""
    query = {"name": "late", "snapshot": snapshot, "baseline": baseline}
    return {"phase_queries": [query], "phase_speedup_min": 1e-9, "phase_repetitions": 1}


def insert_while_a_query_waits(database: Database, waiting: threading.Event) -> None:
    """Hold the lock that the query waits for, insert a row in the midst of it, let it go on."""
    with database.connect() as conn:
        conn.execute("SELECT pg_advisory_lock(1)")
        waiting.set()
        while not database.sql(WAITS)[0]["n"]:
            time.sleep(0.01)
        database.sql("INSERT INTO session_summaries (session_id, matcher) VALUES ('x', 'late')")
        conn.execute("SELECT pg_advisory_unlock(1)")


def test_a_row_that_arrives_between_the_two_is_in_both_results_or_in_neither(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    """The first query counts, then waits until the row is there; the second one counts."""
    waiting = "SELECT n FROM (" + COUNT.replace("count(*)", "count(*) AS n") + " OFFSET 0) c"
    waiting += " WHERE pg_advisory_lock_shared(1) IS NOT NULL"
    may = {"phase_acknowledged": ["pg_advisory_lock_shared()"]}
    steps = Steps.of(module, database, {**phase, **may, **pair(waiting, COUNT)})
    held = threading.Event()
    other = threading.Thread(target=insert_while_a_query_waits, args=(database, held))
    other.start()
    assert held.wait(30)
    (check,) = steps.do("query_gates")["checks"]
    other.join(30)
    assert database.sql(COUNT.format(table="session_summaries"))[0]["count"] == 1
    assert "equal results" in check["measured"] and check["status"] == "pass"


@pytest.mark.parametrize(
    ("snapshot", "baseline", "equal"),
    [
        ("VALUES (1, 'a'), (2, NULL)", "VALUES (2, NULL), (1, 'a')", True),
        ("SELECT NULL", "SELECT ''", False),
        ("VALUES (1), (1)", "VALUES (1)", False),
        ("SELECT 'a,b', 'c'", "SELECT 'a', 'b,c'", False),
        ("SELECT 1 AS q, 2 AS q; ", "SELECT 1, 2 -- a comment", True),
        ("SELECT 'a%b'", "SELECT 'a%%b'", False),
        ("SELECT FROM {table} LIMIT 3", "SELECT FROM {source} LIMIT 3", True),
    ],
)
def test_results_are_compared_whatever_the_queries_look_like(
    database: Database,
    module: Module,
    phase: dict[str, Any],
    snapshot: str,
    baseline: str,
    equal: bool,
) -> None:
    steps = Steps.of(module, database, {**phase, **pair(snapshot, baseline)})
    (found,) = steps.do("query_gates")["pairs"]
    assert found["equal"] is equal


def test_what_cannot_be_read_as_rows_is_refused_before_anything_is_changed(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, {**phase, **pair("SELECT 1; -- done", "SELECT 1")})
    assert "Query 'late' is wrong" in steps.refused("plan")
