# SPDX-License-Identifier: GPL-3.0-or-later
"""The backfill follows what others feel: its batches get shorter, and never wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ansible.module_utils.pgrunbook.backfill import pace
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.ledger import checkpoint
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

KEPT = "SELECT pace -> 'gentle' AS gentle FROM pgrunbook.run"
EVENTS = (
    "SELECT body -> 'detail' AS detail FROM pgrunbook.event"
    " WHERE body ->> 'kind' = 'progress' ORDER BY id"
)


def begun(module: Module, database: Database, phase: Phase, **changes: Any) -> Steps:
    """A run whose backfill is approved, of which each row takes 1.5 ms."""
    steps = Steps.of(module, database, {**phase, "phase_strategy": "keyset", **changes})
    steps.begin()
    steps.approve("backfill")
    database.sql(
        "CREATE FUNCTION pgrunbook.dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.0015 * NEW.row_count); RETURN NULL; END $$;"
        "CREATE TRIGGER dawdle AFTER INSERT ON pgrunbook.batch"
        " FOR EACH ROW EXECUTE FUNCTION pgrunbook.dawdle()"
    )
    return steps


def rows_of_last_batches(database: Database) -> float:
    """The mean of the last twenty of the first pass."""
    query = (
        "SELECT avg(row_count)::float8 AS n FROM"
        " (SELECT row_count FROM pgrunbook.batch WHERE sweep = 0 ORDER BY id DESC LIMIT 20) b"
    )
    rows: float = database.sql(query)[0]["n"]
    return rows


def details(database: Database) -> list[dict[str, Any]]:
    return [row["detail"] for row in database.sql(EVENTS)]


def test_a_threshold_that_is_always_exceeded_shortens_batches_and_all_rows_are_filled(
    database: Database, module: Module, phase: Phase
) -> None:
    few = {"phase_max_commit_ms": 0.0001, "phase_slice_seconds": 60}
    steps = begun(module, database, phase, **few)
    result = steps.backfill()
    assert result["rows_done"] == steps.planned["counts"]["rows_eligible"]
    felt = result["gentle"]
    assert (felt["target_ms"], felt["duty"]) == (pace.LEAST_TARGET_MS, pace.LEAST_DUTY)
    assert "gentle: 5 ms batches, 50 % of the time, commit p95 " in result["progress"]
    assert details(database)[-1]["gentle"] == felt
    assert rows_of_last_batches(database) < 5 / 1.5 * 2
    assert result["held"] == []
    assert "before the run > phase_max_commit_ms 0.0001" in result["progress"]
    kept = database.sql(KEPT)[0]["gentle"]
    assert kept["target_ms"] == pace.LEAST_TARGET_MS and kept["commit"] > 0


def test_a_threshold_that_nothing_exceeds_changes_nothing(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(
        module,
        database,
        phase,
        phase_max_commit_ms=60_000,
        phase_max_probe_ratio=1e6,
        phase_probe_query="SELECT count(*) FROM {table} WHERE {snapshot_ip_type} LIKE 'r%'",
        phase_slice_seconds=1,
    )
    before: set[tuple[float, float]] = set()
    done = False
    while not done:
        done = steps.do("backfill")["done"]
        gentle = database.sql(KEPT)[0]["gentle"]
        before.add((gentle["commit"], gentle["probe"]))
    assert len(before) == 1, "measured before the first batch of the run, and then kept"
    felt = [each["gentle"] for each in details(database) if each["gentle"]]
    assert len(felt) > 1 and all(each["probe_ms"] > 0 for each in felt)
    assert {(each["least_target_ms"], each["duty"]) for each in felt} == {(20.0, 1.0)}
    assert not any(each["gentle_warning"] for each in details(database))


def test_without_a_threshold_nothing_is_measured(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(module, database, phase)
    result = steps.backfill()
    assert result["gentle"] == {} and "gentle" not in result["progress"]
    assert database.sql(KEPT)[0]["gentle"] is None


def test_a_probe_query_that_fails_later_is_a_warning(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql("CREATE TABLE elsewhere (n int)")
    changes = {"phase_probe_query": "SELECT * FROM elsewhere", "phase_max_probe_ratio": 1000}
    steps = begun(module, database, phase, **changes)
    database.sql("DROP TABLE elsewhere")
    result = steps.backfill()
    assert result["rows_done"] == steps.planned["counts"]["rows_eligible"]
    assert "phase_probe_query fails, and is not timed: " in result["gentle_warning"]
    assert result["gentle_warning"] in result["progress"]
    assert "probe_ms" not in result["gentle"] and result["gentle"]["commit_ms"] > 0


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("DELETE FROM {source}", "would write"),
        ("WITH gone AS (DELETE FROM {source} RETURNING 1) SELECT * FROM gone", "would write"),
        ("SELECT nextval('a_sequence')", "calls nextval(), which is volatile"),
        ("SELECT 1; DELETE FROM {source}", "is wrong"),
        ("SELECT * FROM not_there", "is wrong"),
        ("SELECT {nothing} FROM {table}", "has a placeholder that cannot be filled"),
        ("SELECT pg_sleep(20)", "takes more than 1 s"),
    ],
)
def test_a_probe_query_that_cannot_be_repeated_is_refused(
    database: Database, module: Module, phase: Phase, query: str, why: str
) -> None:
    database.sql("CREATE SEQUENCE a_sequence")
    rows = database.sql("SELECT count(*) AS n FROM ip_inventory")
    steps = Steps.of(
        module, database, phase, phase_probe_query=query, phase_acknowledged=["pg_sleep()"]
    )
    refused = steps.refused("plan")
    assert "phase_probe_query" in refused and why in refused and "Next step:" in refused
    assert database.sql("SELECT count(*) AS n FROM ip_inventory") == rows


def test_the_commit_that_is_timed_writes_wal_and_leaves_no_dead_row(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(module, database, phase)
    run = steps.planned["run"]["id"]
    place = "SELECT ctid::text, xmin::text, xmax::text FROM pgrunbook.run"
    written = "SELECT pg_current_wal_flush_lsn() - '0/0' AS at"
    with connect(steps.login, name="test", read_only=False) as conn:
        before, at = database.sql(place)[0], database.sql(written)[0]["at"]
        assert checkpoint.commit_ms(conn, run) > 0
        after = database.sql(place)[0]
        assert database.sql(written)[0]["at"] > at, "it waited until that was on disk"
    assert (after["ctid"], after["xmin"]) == (before["ctid"], before["xmin"])
    assert after["xmax"] != before["xmax"]
