# SPDX-License-Identifier: GPL-3.0-or-later
"""A ledger of which somebody has dropped or altered something in the middle of a run."""

from __future__ import annotations

import pytest

from ansible.module_utils.pgrunbook.ledger import schema, whole
from tests.integration.conftest import Database
from tests.integration.meanwhile import KEYED, before_batch, canary_filled, rollback_approved
from tests.integration.steps import Module

TABLES = ("approval", "batch", "change", "event", "ledger", "run", "unfillable")


@pytest.mark.parametrize("table", TABLES)
def test_a_ledger_that_lacks_a_table_is_refused_by_everything(
    database: Database, module: Module, table: str
) -> None:
    steps = KEYED.make(database, module)
    run = canary_filled(steps)
    steps.approve("backfill")
    database.sql(f"DROP TABLE pgrunbook.{table} CASCADE")
    lacks = f"The ledger, schema pgrunbook, lacks table {table}"
    assert lacks in steps.refused("backfill")
    assert lacks in steps.refused("plan")
    assert lacks in steps.refused("plan", rollback_of=run)
    assert lacks in steps.refused("data_gates", unfilled_max=0)
    assert lacks in steps.refused("run_info", reports=[])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP SCHEMA pgrunbook CASCADE", "somebody has dropped or emptied schema pgrunbook"),
        ("DROP TABLE pgrunbook.batch", "lacks table batch"),
        ("ALTER TABLE pgrunbook.batch DROP xid, DROP sweep", "lacks sweep, xid in table batch"),
        ("ALTER TABLE pgrunbook.run RENAME sweep TO swept", "lacks sweep in table run"),
        (
            "TRUNCATE pgrunbook.run, pgrunbook.batch, pgrunbook.approval, pgrunbook.change,"
            " pgrunbook.unfillable",
            "somebody has dropped or emptied schema pgrunbook",
        ),
    ],
)
def test_a_ledger_that_is_broken_between_two_batches_is_named(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch, change: str, told: str
) -> None:
    steps = KEYED.make(database, module)
    canary_filled(steps)
    steps.approve("backfill")
    before_batch(monkeypatch, lambda number: number == 4, lambda: database.sql(change))
    assert told in steps.refused("backfill")


def test_a_ledger_that_is_gone_is_no_other_server(database: Database, module: Module) -> None:
    steps = KEYED.make(database, module)
    canary_filled(steps)
    rollback_approved(steps)
    database.sql("DROP SCHEMA pgrunbook CASCADE")
    message = steps.refused("backfill", state="reverted")
    assert "There is no ledger any more" in message


def test_what_is_whole_follows_from_the_migrations(database: Database, module: Module) -> None:
    steps = KEYED.make(database, module)
    canary_filled(steps)
    rows = database.sql(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = 'pgrunbook'::regnamespace AND c.relkind = 'r' AND a.attnum > 0"
    )
    assert {(r["relname"], r["attname"]) for r in rows} == whole.parts(schema.VERSION)
    assert {table for table, _ in whole.parts(schema.VERSION)} == set(TABLES)


@pytest.mark.parametrize("state", ["present", "reverted"])
def test_a_ledger_that_is_made_over_to_others_in_the_middle_is_refused(
    database: Database, module: Module, mallory: str, state: str
) -> None:
    database.superuser(f"REVOKE CREATE ON SCHEMA public FROM {mallory}")
    steps = KEYED.make(database, module)
    canary_filled(steps)
    if state == "present":
        steps.approve("backfill")
    else:
        rollback_approved(steps)
    database.superuser(f"ALTER TABLE pgrunbook.batch OWNER TO {mallory}")
    message = steps.refused("backfill", state=state)
    assert "pgrunbook.batch" in message and f"belongs to role '{mallory}'" in message
