# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollback touches nothing that the run did not write, and finds what is in its way before it
begins."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps
from tests.integration.test_exact import finished, give_back, plan_back

Phase = dict[str, Any]


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A finished run."""
    return finished(Steps.of(module, database, phase))


def refused(steps: Steps, **arguments: Any) -> str:
    return steps.refused("plan", rollback_of=steps.planned["run"]["id"], **arguments)


UNIQUE = "CREATE UNIQUE INDEX pair ON session_summaries (session_id, snapshot_country);"
BILLS = (
    "CREATE TABLE bills (session_id varchar(64), country varchar(2),"
    " CONSTRAINT paid FOREIGN KEY (session_id, country)"
    " REFERENCES session_summaries (session_id, snapshot_country) {action});"
    "INSERT INTO bills SELECT session_id, snapshot_country FROM session_summaries"
    " WHERE snapshot_country IS NOT NULL LIMIT 50"
)


@pytest.mark.parametrize("action", ["ON UPDATE CASCADE", "ON UPDATE SET NULL", ""])
def test_a_foreign_key_that_refers_to_a_filled_column_stops_the_plan(
    database: Database, steps: Steps, action: str
) -> None:
    database.sql(UNIQUE + BILLS.format(action=action))
    message = refused(steps)
    assert "'paid' of public.bills" in message
    assert (action or "ON UPDATE NO ACTION") in message
    database.sql("ALTER TABLE bills DROP CONSTRAINT paid")
    assert give_back(steps)["rows_left_alone"] == 0
    assert database.sql("SELECT count(country) AS n FROM bills") == [{"n": 50}]


def test_a_foreign_key_that_refers_to_the_key_only_stands_in_nobodys_way(
    database: Database, steps: Steps
) -> None:
    database.sql(
        "CREATE TABLE bills (session_id varchar(64) REFERENCES session_summaries ON UPDATE CASCADE)"
    )
    assert give_back(steps)["rows_left_alone"] == 0


def test_a_foreign_key_that_was_made_after_the_approval_stops_the_rollback(
    database: Database, steps: Steps
) -> None:
    database.sql(UNIQUE)
    plan_back(steps)
    steps.approve("rollback")
    database.sql(BILLS.format(action="ON UPDATE CASCADE"))
    assert "paid on public.bills is new" in steps.refused("backfill", state="reverted")
    assert database.sql("SELECT count(country) AS n FROM bills") == [{"n": 50}]


PARTITIONED = """
CREATE TABLE visit (id int, place text, town text, part int, PRIMARY KEY (id, part))
  PARTITION BY LIST (part);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1);
CREATE TABLE visit_0 PARTITION OF visit FOR VALUES IN (0);
CREATE TABLE place (name text PRIMARY KEY, town text);
INSERT INTO place VALUES ('a', 'X');
INSERT INTO visit SELECT n, 'a', NULL, n % 2 FROM generate_series(1, 300) n
"""


def partitioned(database: Database, module: Module, phase: Phase) -> Steps:
    """A finished run on a partitioned table."""
    database.sql(PARTITIONED)
    changed = {
        "phase_table": "visit",
        "phase_key": ["id", "part"],
        "phase_columns": [{"name": "town", "type": "text", "source": "town"}],
        "phase_source_table": "place",
        "phase_source_key": {"place": "name"},
        "phase_indexes": [],
        "phase_queries": [],
    }
    return finished(Steps.of(module, database, {**phase, **changed}))


@pytest.mark.parametrize("refers_to", ["visit", "visit_1"])
def test_a_foreign_key_that_refers_to_a_partition_or_through_the_parent_counts(
    database: Database, module: Module, phase: Phase, refers_to: str
) -> None:
    steps = partitioned(database, module, phase)
    database.sql(
        f"CREATE UNIQUE INDEX ON {refers_to} (id, part, town);"
        "CREATE TABLE bills (id int, part int, town text, CONSTRAINT paid FOREIGN KEY"
        f" (id, part, town) REFERENCES {refers_to} (id, part, town) ON UPDATE CASCADE)"
    )
    message = refused(steps)
    assert message.count("'paid' of public.bills") == 1
