# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody takes from the journal, or changes in it, is found by whoever relies on it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from psycopg.sql import SQL

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.ledger import journal
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps
from tests.integration.test_backfill import die, end

Phase = dict[str, Any]

FIRST = "(SELECT min(id) FROM pgrunbook.batch)"
ALTERED = {
    "nine tenths deleted": (
        "DELETE FROM pgrunbook.batch WHERE id % 10 <> 0",
        "rows that the events name are missing",
    ),
    "another value": (
        "UPDATE pgrunbook.batch SET journal = jsonb_set(journal, '{0,1}', '\"1\"')"
        f" WHERE id = {FIRST}",
        "events recorded of it differs",
    ),
    "one more": (
        "INSERT INTO pgrunbook.batch (id, run_id, sweep, row_count, journal, milliseconds)"
        ' OVERRIDING SYSTEM VALUE SELECT 0, run_id, 0, 1, \'[["x", null, "DE", null]]\', 1'
        f" FROM pgrunbook.batch WHERE id = {FIRST}",
        "it has 1 rows more than",
    ),
    "nine tenths hidden behind what a rollback writes": (
        "UPDATE pgrunbook.batch SET merged = '[]' WHERE id % 10 <> 0",
        "column merged of",
    ),
    "a rename that is gone": (
        "DELETE FROM pgrunbook.change WHERE kind = 'rename'",
        "(rename of snapshot_ip_types to snapshot_ip_type) is in the events, and not in",
    ),
    "a rename that is said to be undone": (
        "UPDATE pgrunbook.change SET undone_at = now() WHERE kind = 'rename'",
        "(rename of snapshot_ip_types to snapshot_ip_type) is in the events, and not in",
    ),
    "an index that the run never built": (
        "INSERT INTO pgrunbook.change (run_id, kind, old, new)"
        " SELECT id, 'index_build', '', 'session_summaries_pkey' FROM pgrunbook.run",
        "(index_build of session_summaries_pkey) is in the ledger's changes, and not in",
    ),
    "said to be given back": (
        "UPDATE pgrunbook.batch SET reverted_at = now()",
        "which no rollback gave back",
    ),
}


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A run whose backfill is approved."""
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.approve("backfill")
    return steps


def run_info(steps: Steps) -> dict[str, Any]:
    return steps.do("run_info", reports=[])


def plan_back(steps: Steps) -> dict[str, Any]:
    return {"rollback_of": steps.planned["run"]["id"]}


@pytest.mark.representative
@pytest.mark.parametrize(("change", "says"), ALTERED.values(), ids=ALTERED.keys())
def test_a_journal_that_was_changed_is_found_and_only_knowingly_rolled_back(
    database: Database, steps: Steps, change: str, says: str
) -> None:
    steps.backfill()
    end(steps)
    assert (run_info(steps)["altered"], run_info(steps)["notes"]) == ([], [])
    database.sql(change)
    (altered,) = run_info(steps)["altered"]
    assert says in altered
    refusal = steps.refused("plan", **plan_back(steps))
    assert altered in refusal and "accept_incomplete_journal=true" in refusal

    steps.plan(**plan_back(steps), accept_incomplete_journal=True)
    assert steps.planned["plan"]["journal_altered"] == [altered]
    assert "ACCEPTED" in steps.planned["text"]
    steps.approve("rollback")
    steps.backfill(state="reverted")


def test_a_run_at_work_meanwhile_is_no_change_of_its_journal(
    database: Database, steps: Steps
) -> None:
    """A slice ends, and records its batches, after somebody has begun to compare and before they
    have seen everything."""
    steps.backfill()
    run = steps.planned["run"]["id"]
    waiting = SQL(
        "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'pgrunbook.run'::regclass"
    )
    with (
        closing(database.connect()) as slice_,
        connect(database.login, name="test", read_only=True) as conn,
        ThreadPoolExecutor(1) as pool,
    ):
        with slice_.transaction():
            slice_.execute("LOCK pgrunbook.run")
            found = pool.submit(journal.compare, conn)
            while not database.sql(waiting):
                assert not found.done()
                time.sleep(0.01)
            slice_.execute(
                "INSERT INTO pgrunbook.batch (run_id, sweep, row_count, journal, milliseconds)"
                ' VALUES (%s, 1, 1, \'[["x", null, "DE", null]]\', 1)',
                (run,),
            )
            covered = plain(journal.cover(slice_, run))
            ledger.event(slice_, run, "progress", rows_done=1, journal=covered)
        assert found.result(30) == journal.Findings()


def test_a_state_or_a_verdict_that_was_changed_is_found(database: Database, steps: Steps) -> None:
    steps.backfill()
    steps.do("run", state="finished", verdict="NO-GO")
    database.sql("UPDATE pgrunbook.run SET verdict = 'GO'")
    (altered,) = run_info(steps)["altered"]
    assert "verdict of run" in altered and "is GO in its row, and NO-GO in the events" in altered
    database.sql("UPDATE pgrunbook.run SET verdict = 'NO-GO', state = 'reverted'")
    (altered,) = run_info(steps)["altered"]
    assert "is reverted in its row, and finished in the events" in altered


def test_an_index_that_was_tried_and_kept_is_a_change_of_the_events(
    database: Database, steps: Steps
) -> None:
    run = steps.planned["run"]["id"]
    with closing(database.connect()) as conn:
        ledger.change_made(conn, run, ledger.INDEX_TRIAL, old="", new="tried")
        assert run_info(steps)["altered"] == []
        ledger.trial_kept(conn, run, "tried")
        assert run_info(steps)["altered"] == []
        ledger.change_undone(conn, run, ledger.INDEX_KEPT, old="", new="tried")
    assert run_info(steps)["altered"] == []


def test_the_figures_are_told(database: Database, steps: Steps) -> None:
    steps.backfill()
    end(steps)
    rows = database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch")[0]["n"]
    (gone,) = database.sql(f"DELETE FROM pgrunbook.batch WHERE id = {FIRST} RETURNING row_count")
    (altered,) = run_info(steps)["altered"]
    assert f"{gone['row_count']:,} of the {rows:,} rows that the events name" in altered


def test_validation_finds_it_too(database: Database, steps: Steps) -> None:
    steps.backfill()
    end(steps)

    def gate() -> dict[str, Any]:
        checks = steps.do("data_gates", unfilled_max=10**6)["checks"]
        (found,) = [c for c in checks if c["id"] == "journal"]
        return dict(found)

    assert gate()["status"] == "pass"
    database.sql(f"DELETE FROM pgrunbook.batch WHERE id = {FIRST}")
    assert gate()["status"] == "fail"


def test_a_journal_that_was_deleted_whole_is_a_note_and_no_rollback(
    database: Database, steps: Steps
) -> None:
    """As docs/variables.md has it for a run that nobody will want to undo."""
    steps.backfill()
    end(steps)
    database.sql("DELETE FROM pgrunbook.batch")
    found = run_info(steps)
    assert found["altered"] == []
    assert "none is left" in found["notes"][0] and "NOTE" in found["text"]
    assert "none is left" in steps.refused("plan", **plan_back(steps))


def test_batches_of_a_slice_that_crashed_are_covered_by_the_next_event(
    database: Database, steps: Steps
) -> None:
    die(database, "INSERT", "(SELECT count(*) FROM pgrunbook.batch) > 3")
    assert "terminat" in steps.refused("backfill")
    (note,) = run_info(steps)["notes"]
    assert run_info(steps)["altered"] == [] and "have no hash of its journal" in note
    database.sql("DROP TRIGGER die ON pgrunbook.batch")
    steps.backfill()
    assert (run_info(steps)["altered"], run_info(steps)["notes"]) == ([], [])
    database.sql(f"DELETE FROM pgrunbook.batch WHERE id = {FIRST}")
    assert "are missing" in run_info(steps)["altered"][0]


def test_a_run_of_an_older_version_has_its_rows_counted(database: Database, steps: Steps) -> None:
    steps.backfill()
    database.sql(
        "UPDATE pgrunbook.event SET body = body #- '{detail,journal}' WHERE body ->> 'run' <> ''"
    )
    found = run_info(steps)
    assert not any("journal" in sentence for sentence in found["altered"])
    assert "Only its row count was compared" in found["notes"][0]
    database.sql(f"DELETE FROM pgrunbook.batch WHERE id = {FIRST}")
    assert any("are missing" in sentence for sentence in run_info(steps)["altered"])


def test_a_rollback_at_work_and_one_that_ended_leave_the_journal_as_it_was(
    database: Database, steps: Steps
) -> None:
    steps.backfill()
    end(steps)
    steps.plan(**plan_back(steps))
    steps.approve("rollback")
    die(database, "UPDATE", "(SELECT count(reverted_at) FROM pgrunbook.batch) > 3")
    assert "terminat" in steps.refused("backfill", state="reverted")
    assert run_info(steps)["altered"] == []
    database.sql("DROP TRIGGER die ON pgrunbook.batch")
    steps.backfill(state="reverted")
    steps.do("column", state="reverted")
    steps.do("run", state="reverted")
    assert run_info(steps)["altered"] == []
    database.sql(f"UPDATE pgrunbook.batch SET reverted_at = NULL WHERE id = {FIRST}")
    assert "count as not given back" in run_info(steps)["altered"][0]
