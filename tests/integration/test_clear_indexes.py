# SPDX-License-Identifier: GPL-3.0-or-later
"""A large rollback drops the indexes on the filled columns first, and leaves none missing."""

from __future__ import annotations

from typing import Any

import pytest

from ansible.module_utils.pgrunbook.plan import rollback_plan
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps
from tests.integration.test_exact import end, plan_back

INDEXES = (
    "SELECT indexdef FROM pg_indexes WHERE tablename = 'session_summaries'"
    " AND indexdef ~ 'snapshot_(asn|country|ip_type)' ORDER BY 1"
)


@pytest.fixture
def before(database: Database) -> list[dict[str, Any]]:
    """The indexes on the columns before the run."""
    return database.sql(INDEXES)


@pytest.fixture
def steps(
    database: Database,
    module: Module,
    phase: dict[str, Any],
    before: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> Steps:
    """A finished run that had dropped indexes for its backfill, and whose rows are enough."""
    monkeypatch.setattr(rollback_plan, "WORTH_ROWS", 1)
    steps = Steps.of(module, database, {**phase, "phase_strategy": "interleaved"})
    steps.begin()
    steps.approve("backfill")
    steps.defer()
    steps.backfill()
    steps.build()
    end(steps)
    return steps


def clears(steps: Steps) -> list[str]:
    """The statements of the plan's step that drops indexes."""
    plan_back(steps)
    found = [s["statements"] for s in steps.planned["plan"]["steps"] if s["id"] == "index_clear"]
    return [statement for each in found for statement in each]


@pytest.mark.representative
def test_they_are_gone_meanwhile_and_back_after_it_was_broken_off(
    database: Database, steps: Steps, before: list[dict[str, Any]]
) -> None:
    there = database.sql(INDEXES)
    assert len(clears(steps)) == len(there) > len(before) > 0
    planned = "; ".join(s for each in steps.planned["plan"]["steps"] for s in each["statements"])
    assert planned.count("CREATE INDEX CONCURRENTLY") == len(before)
    steps.approve("rollback")
    assert len(steps.do("index", state="cleared")["queries"]) == len(there)
    assert database.sql(INDEXES) == []
    assert steps.do("index", state="cleared")["changed"] is False
    steps.do("backfill", state="reverted")
    steps.do("run", state="failed")
    steps.back()
    assert database.sql(INDEXES) == before


def test_none_is_dropped_without_an_approval(database: Database, steps: Steps) -> None:
    plan_back(steps)
    there = database.sql(INDEXES)
    assert "was taken over by another execution" in steps.refused("index", state="cleared")
    assert database.sql(INDEXES) == there


STAYS = pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX theirs ON session_summaries (snapshot_asn)",
        "DROP INDEX ix_session_summaries_snapshot_asn;"
        " CREATE INDEX ix_session_summaries_snapshot_asn"
        " ON session_summaries (snapshot_asn, session_id)",
    ],
    ids=["another's", "made anew"],
)


@STAYS
def test_none_is_dropped_where_one_has_to_stay(database: Database, steps: Steps, sql: str) -> None:
    """An UPDATE could not be heap-only anyhow."""
    assert clears(steps) != []
    database.sql(sql)
    assert clears(steps) == []


@STAYS
def test_what_was_made_after_the_approval_is_not_dropped(
    database: Database, steps: Steps, sql: str
) -> None:
    assert clears(steps) != []
    steps.approve("rollback")
    database.sql(sql)
    there = database.sql(INDEXES)
    assert steps.do("index", state="cleared")["changed"] is False
    steps.do("backfill", state="reverted")
    assert database.sql(INDEXES) == there


def test_none_is_dropped_where_the_rows_would_not_be_given_back(
    database: Database, steps: Steps
) -> None:
    assert clears(steps) != []
    steps.approve("rollback")
    there = database.sql(INDEXES)
    database.sql("ALTER TABLE session_summaries ADD CHECK (snapshot_asn > 0) NOT VALID")
    assert "_check on public.session_summaries is new" in steps.refused("index", state="cleared")
    assert database.sql(INDEXES) == there
