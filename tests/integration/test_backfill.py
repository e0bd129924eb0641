# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backfill does to the rows while others are at work, and how it gives them back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill import backfill
from ansible.module_utils.pgrunbook.core.connection import Connection, connect
from ansible.module_utils.pgrunbook.core.spec import Spec
from ansible.module_utils.pgrunbook.core.values import plain
from tests.integration.conftest import Database, parsed
from tests.integration.steps import TABLES, Module, Steps, content

Phase = dict[str, Any]

FILLED = "'{snapshot_asn,snapshot_country,snapshot_ip_type,snapshot_ip_types}'::text[]"
ELIGIBLE = """
SELECT count(*) AS n FROM session_summaries s JOIN ip_inventory i ON i.ip_address = s.source_ip
WHERE s.snapshot_asn IS NULL AND i.current_asn IS NOT NULL
   OR s.snapshot_country IS NULL AND i.geo_country IS NOT NULL
   OR s.snapshot_ip_type IS NULL AND i.ip_type IS NOT NULL
"""
JOURNAL = "SELECT e ->> 0 AS id FROM pgrunbook.batch, jsonb_array_elements(journal) e"


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A run whose backfill is approved."""
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.approve("backfill")
    return steps


@pytest.fixture
def conn(database: Database) -> Iterator[Connection]:
    with connect(database.login, name="test", read_only=False, schemas=["public"]) as conn:
        yield conn


def batch(conn: Connection, steps: Steps, phase: Phase, *, canary: bool = False) -> dict[str, Any]:
    """One batch: a slice that is over as soon as it has done something."""
    spec: Spec = replace(parsed(phase), slice_seconds=0)
    run = ledger.Run(**steps.planned["run"])
    result: dict[str, Any] = plain(backfill.run_slice(conn, spec, run, canary=canary))
    return result


def eligible(database: Database) -> int:
    number: int = database.sql(ELIGIBLE)[0]["n"]
    return number


def sessions(database: Database, *ids: str) -> list[dict[str, Any]]:
    return database.sql(
        "SELECT session_id, snapshot_asn, snapshot_country, snapshot_ip_type"
        " FROM session_summaries WHERE session_id = ANY (%s) ORDER BY 1",
        (list(ids),),
    )


def filled(database: Database, rows: int) -> list[str]:
    """The keys of rows in which a run filled all three columns."""
    found = database.sql(
        "SELECT e ->> 0 AS id FROM pgrunbook.batch, jsonb_array_elements(journal) e"
        " WHERE NOT e @> 'null' ORDER BY 1 LIMIT %s",
        (rows,),
    )
    return [row["id"] for row in found]


def end(steps: Steps) -> None:
    steps.do("run", state="finished")


def die(database: Database, event: str, when: str) -> None:
    """From now on the server ends a backend between a batch's writes and its commit."""
    database.sql(
        "CREATE FUNCTION pgrunbook.die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {when} THEN PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(10); END IF;"
        " RETURN NULL; END $$;"
        f"CREATE TRIGGER die AFTER {event} ON pgrunbook.batch EXECUTE FUNCTION pgrunbook.die()"
    )


@pytest.mark.representative
def test_equals_one_update(database: Database, steps: Steps) -> None:
    """Row for row what one UPDATE gives, and nothing else is touched, not even updated_at."""
    expected = database.sql(
        "SELECT session_id, coalesce(snapshot_asn, current_asn) AS asn,"
        " coalesce(snapshot_country, geo_country) AS country,"
        f" coalesce(snapshot_ip_type, ip_type) AS type, to_jsonb(s) - {FILLED} AS rest"
        " FROM session_summaries s LEFT JOIN ip_inventory ON ip_address = source_ip ORDER BY 1"
    )
    had_a_value = database.sql(
        "SELECT count(*) AS n FROM session_summaries WHERE snapshot_asn IS NOT NULL"
    )
    assert had_a_value[0]["n"] > 10
    result = steps.backfill()
    assert result["rows_done"] == steps.planned["counts"]["rows_eligible"]
    assert expected == database.sql(
        "SELECT session_id, snapshot_asn AS asn, snapshot_country AS country,"
        f" snapshot_ip_type AS type, to_jsonb(s) - {FILLED} AS rest"
        " FROM session_summaries s ORDER BY 1"
    )


@pytest.mark.representative
def test_never_overwrites_a_value(database: Database, steps: Steps) -> None:
    """Values that differ from the source stay, also those written while the run is at work."""
    database.sql(
        "UPDATE session_summaries SET snapshot_asn = -1 WHERE snapshot_asn IS NULL"
        " AND source_ip > '250'"
    )
    written = "SELECT session_id FROM session_summaries WHERE snapshot_asn = -1 ORDER BY 1"
    before = database.sql(written)
    assert len(before) > 100
    steps.backfill()
    assert database.sql(written) == before
    assert eligible(database) == 0


def test_locked_rows_are_caught_once_they_are_free(
    database: Database, steps: Steps, phase: Phase, conn: Connection
) -> None:
    """Even when the lock goes after the closing sweep has passed them, and no row is left else."""
    with database.connect() as other, other.transaction():
        locked = other.execute(
            "SELECT session_id FROM session_summaries"
            " WHERE snapshot_asn IS NULL AND source_ip IN"
            "   (SELECT ip_address FROM ip_inventory WHERE current_asn IS NOT NULL)"
            " LIMIT 50 FOR UPDATE"
        ).fetchall()
        ids = [row["session_id"] for row in locked]
        while batch(conn, steps, phase)["sweep"] < 2:
            pass
        assert eligible(database) == len(ids) == 50
        assert {row["snapshot_asn"] for row in sessions(database, *ids)} == {None}
    result = steps.backfill()
    assert result["sweep"] > 0
    assert eligible(database) == 0


def test_rows_that_arrive_are_caught(
    database: Database, steps: Steps, phase: Phase, conn: Connection
) -> None:
    """Also where they land on pages that the sweep has passed."""
    for _ in range(4):
        assert batch(conn, steps, phase)["rows_changed"] > 0
    database.sql("VACUUM session_summaries")
    database.sql(
        "INSERT INTO session_summaries (session_id, source_ip)"
        " SELECT 'new' || row_number() OVER (), ip_address FROM ip_inventory"
        " WHERE current_asn IS NOT NULL LIMIT 40"
    )
    passed = database.sql(
        "SELECT session_id FROM session_summaries WHERE session_id LIKE 'new%%'"
        " AND ctid < (SELECT format('(%%s,0)', next_page)::tid FROM pgrunbook.run)",
        (),
    )
    assert passed != []
    steps.backfill()
    assert eligible(database) == 0
    new = database.sql(
        "SELECT count(snapshot_asn) AS n FROM session_summaries WHERE session_id LIKE 'new%'"
    )
    assert new == [{"n": 40}]


@pytest.mark.parametrize("batches", [0, 3, 7])
def test_killed_run_resumes(
    database: Database, module: Module, phase: Phase, steps: Steps, batches: int
) -> None:
    """Another execution goes on, and each row is in the journal once."""
    die(database, "INSERT", f"(SELECT count(*) FROM pgrunbook.batch) > {batches}")
    assert "terminat" in steps.refused("backfill")
    left = database.sql("SELECT count(*) AS n, sum(row_count) AS rows FROM pgrunbook.batch")[0]
    assert left["n"] == batches
    total = steps.planned["counts"]["rows_eligible"]
    assert eligible(database) == total - (left["rows"] or 0)
    database.sql("DROP TRIGGER die ON pgrunbook.batch")

    first = steps.planned["run"]
    steps.do("run", state="failed")
    again = Steps(module, database.login, steps.spec)
    again.plan()
    assert again.planned["resumes"] and again.planned["run"]["id"] == first["id"]
    again.approve("plan")
    again.approve("backfill")
    assert "taken over" in steps.refused("backfill")
    assert again.backfill()["rows_done"] == total
    assert eligible(database) == 0
    journal = [row["id"] for row in database.sql(JOURNAL)]
    assert len(journal) == len(set(journal)) == total


@pytest.mark.representative
def test_slices_resume(database: Database, steps: Steps, phase: Phase, conn: Connection) -> None:
    """Each slice goes on where the last one stopped: rows add up, and none is done twice."""
    done, slices = 0, 0
    while not (result := batch(conn, steps, phase))["done"]:
        done += result["rows_changed"]
        slices += 1
        assert result["rows_done"] == done
    assert slices > 10 and done == steps.planned["counts"]["rows_eligible"]
    journal = [row["id"] for row in database.sql(JOURNAL)]
    assert len(journal) == len(set(journal)) == done


def test_resumed_run_catches_what_arrived_since(
    database: Database, module: Module, phase: Phase, steps: Steps
) -> None:
    """The backfill was through, a later step failed, and rows arrived before the next try."""
    steps.backfill()
    steps.do("run", state="failed")
    database.sql("UPDATE session_summaries SET snapshot_asn = NULL WHERE session_id < '1'")
    assert eligible(database) > 100
    again = Steps(module, database.login, steps.spec)
    again.plan()
    assert again.planned["run"]["id"] == steps.planned["run"]["id"]
    again.approve("plan")
    again.approve("backfill")
    again.backfill()
    assert eligible(database) == 0


def test_a_rollback_that_was_begun_is_finished_before_anything_else(
    database: Database, module: Module, phase: Phase, steps: Steps
) -> None:
    """The rollback gave the rows back and stopped before the rename."""
    run = steps.planned["run"]["id"]
    steps.backfill()
    steps.do("run", state="failed")
    steps.plan(rollback_of=run)
    steps.approve("rollback")
    steps.backfill(state="reverted")
    steps.do("run", state="failed")
    assert f"rollback of run {run} was begun" in steps.refused("plan")

    steps.back()
    again = Steps(module, database.login, steps.spec)
    again.begin()
    assert again.planned["run"]["id"] != run
    again.approve("backfill")
    assert again.backfill()["rows_done"] == again.planned["counts"]["rows_eligible"]
    assert eligible(database) == 0


def test_where_nothing_is_to_be_filled_no_run_is_begun(
    database: Database, module: Module, phase: Phase
) -> None:
    Steps.of(module, database, phase, phase_queries=[]).forward()
    before = database.fingerprint()
    again = Steps.of(module, database, phase, phase_queries=[])
    assert not again.plan()["needed"]
    for canary in (True, False):
        result = again.do("backfill", canary=canary)
        assert (result["changed"], result["done"], result["rows_changed"]) == (False, True, 0)
    assert database.fingerprint() == before


def test_canary_stops_at_its_number(
    database: Database, steps: Steps, phase: Phase, conn: Connection
) -> None:
    assert batch(conn, steps, phase, canary=True)["rows_done"] == 100
    assert eligible(database) == steps.planned["counts"]["rows_eligible"] - 100


def test_window_that_ends_stops_the_run(
    database: Database, steps: Steps, phase: Phase, conn: Connection
) -> None:
    batch(conn, steps, phase)
    before = content(database, *TABLES)
    steps.approved_with(database, window_end="2001-01-01T00:00:00Z")
    assert "maintenance window ended" in steps.refused("backfill")
    assert content(database, *TABLES) == before


@pytest.mark.representative
def test_revert_is_exact(database: Database, module: Module, phase: Phase) -> None:
    before = content(database, *TABLES)
    steps = Steps.of(module, database, {**phase, "phase_speedup_min": 0.001})
    steps.forward()
    assert content(database, *TABLES) != before
    result = steps.back()
    assert (result["rows_done"], result["left_alone"]) == (0, [])
    assert content(database, *TABLES) == before


def test_killed_rollback_resumes(database: Database, steps: Steps) -> None:
    before = content(database, *TABLES)["rows"]
    steps.backfill()
    end(steps)
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")
    die(database, "UPDATE", "(SELECT count(reverted_at) FROM pgrunbook.batch) > 3")
    assert "terminat" in steps.refused("backfill", state="reverted")
    database.sql("DROP TRIGGER die ON pgrunbook.batch")
    assert database.sql("SELECT count(reverted_at) AS n FROM pgrunbook.batch") == [{"n": 3}]
    result = steps.backfill(state="reverted")
    assert (result["rows_done"], result["rows_left_alone"]) == (0, 0)
    assert content(database, *TABLES)["rows"] == before


CHANGES = {
    "other value": ("snapshot_country = 'ZZ'", True),
    "taken away": ("snapshot_ip_type = NULL", True),
    "another column": ("risk_score = 77, updated_at = now()", False),
    "same value again": ("snapshot_country = snapshot_country", False),
}


@pytest.mark.representative
@pytest.mark.parametrize(("change", "left"), CHANGES.values(), ids=CHANGES.keys())
def test_revert_leaves_alone_what_others_changed(
    database: Database, steps: Steps, change: str, left: bool
) -> None:
    steps.backfill()
    end(steps)
    ids = filled(database, 3)
    database.sql(f"UPDATE session_summaries SET {change} WHERE session_id = ANY (%s)", (ids,))
    theirs = sessions(database, *ids)
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")
    result = steps.backfill(state="reverted")
    assert result["rows_left_alone"] == (3 if left else 0)
    assert sorted(entry[0] for entry in result["left_alone"]) == (ids if left else [])
    now = sessions(database, *ids)
    if left:
        assert now == theirs
    else:
        assert {v for row in now for k, v in row.items() if k != "session_id"} == {None}
    others = eligible(database)
    assert others >= steps.planned["counts"]["rows_eligible"] - 3


def test_revert_lists_deleted_rows(database: Database, steps: Steps) -> None:
    steps.backfill()
    end(steps)
    (gone,) = filled(database, 1)
    database.sql("DELETE FROM session_summaries WHERE session_id = %s", (gone,))
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")
    assert [entry[0] for entry in steps.backfill(state="reverted")["left_alone"]] == [gone]


TAMPERING = {
    "changed": ('UPDATE pgrunbook.event SET body = body || \'{{"run": "x"}}\' WHERE id = {0}', 0),
    "rehashed": (
        'UPDATE pgrunbook.event SET body = body || \'{{"run": "x"}}\', hash = encode(sha256('
        "convert_to(previous || (body || '{{\"run\": \"x\"}}')::text, 'UTF8')), 'hex')"
        " WHERE id = {0}",
        1,
    ),
    "removed": ("DELETE FROM pgrunbook.event WHERE id = {0}", 1),
}


@pytest.mark.representative
@pytest.mark.parametrize(("sql", "shown_after"), TAMPERING.values(), ids=TAMPERING.keys())
def test_tampered_event_is_found(
    database: Database, steps: Steps, conn: Connection, sql: str, shown_after: int
) -> None:
    end(steps)
    assert ledger.broken_links(conn) == []
    events = [row["id"] for row in database.sql("SELECT id FROM pgrunbook.event ORDER BY 1")]
    assert len(events) > 3
    database.sql(sql.format(events[1]))
    assert ledger.broken_links(conn) == [events[1 + shown_after]]
    result = steps.do("run_info")
    found = f"Event {events[1 + shown_after]} does not follow from the one before it."
    assert found in result["altered"] and f"ALTERED  {found}" in result["text"]


def test_failed_index_build_takes_nothing_with_it(
    database: Database, steps: Steps, phase: Phase
) -> None:
    """Another session takes the index's name after the plan: its index must survive."""
    name = phase["phase_indexes"][3]["name"]
    database.sql(f"CREATE INDEX {name} ON ip_inventory (geo_country)")
    before = database.fingerprint()
    assert name in steps.refused("index")
    assert database.fingerprint() == before
    assert (
        database.sql(
            "SELECT kind FROM pgrunbook.change WHERE undone_at IS NULL AND kind = 'index_build'"
        )
        == []
    )


def test_values_are_checked_by_the_table(database: Database, steps: Steps) -> None:
    """A source value that a constraint refuses stops the run; earlier batches are kept."""
    database.sql("UPDATE ip_inventory SET geo_country = 'us' WHERE geo_country = 'US'")
    message = steps.refused("backfill")
    assert "snapshot_country_iso" in message and "session_summaries" in message
    with pytest.raises(psycopg.errors.CheckViolation):
        database.sql("UPDATE session_summaries SET snapshot_country = 'us'")


def test_an_index_build_that_was_begun_twice_is_taken_back_once(
    database: Database, module: Module, phase: Phase
) -> None:
    before = content(database, *TABLES)
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.do("index", actions=["build"])
    database.sql(
        "INSERT INTO pgrunbook.change (run_id, kind, old, new)"
        " SELECT run_id, kind, old, new FROM pgrunbook.change WHERE kind = 'index_build'"
    )
    end(steps)
    steps.back()
    assert content(database, *TABLES) == before


def test_a_run_interrupted_after_its_last_write_can_be_ended(
    database: Database, steps: Steps
) -> None:
    first = steps.planned
    steps.backfill()
    steps.do("index", actions=["drop_invalid", "build"])
    database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")

    again = steps.plan()
    assert again["run"]["id"] == first["run"]["id"] and again["run"] != first["run"]
    assert again["resumes"] and again["needed"]
    assert again["counts"]["rows_eligible"] == 0
    assert again["baseline"]["counts"] == first["counts"]
    steps.approve("plan")
    steps.approve("backfill")
    assert not steps.backfill()["changed"]
    assert steps.do("run", state="finished", verdict="GO")["changed"]
