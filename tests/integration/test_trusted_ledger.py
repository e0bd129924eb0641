# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger is nobody else's to make, to write to or to attach something to."""

from __future__ import annotations

from typing import Any

import pytest

from demo import data
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]


@pytest.fixture
def phase(phase: Phase) -> Phase:
    return {**phase, "phase_queries": []}


@pytest.mark.representative
def test_a_ledger_that_somebody_else_made_first_is_refused(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    """Its tables could have triggers, which would run as the login role at the first approval."""
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = Steps.of(module, database, phase)
    steps.plan()
    database.superuser(
        f"GRANT CREATE ON DATABASE {database.name} TO mallory;"
        "SET ROLE mallory; CREATE SCHEMA pgrunbook; GRANT ALL ON SCHEMA pgrunbook TO PUBLIC"
    )
    refused = steps.refused("approval", **steps.approval("plan"))
    assert "Schema pgrunbook belongs to role 'mallory'" in refused
    assert "'mallory'" in steps.refused("plan")
    database.superuser(f"ALTER SCHEMA pgrunbook OWNER TO {data.ROLE}")
    revoke = 'REVOKE CREATE ON SCHEMA "pgrunbook" FROM PUBLIC'
    assert revoke in steps.refused("approval", **steps.approval("plan"))
    database.sql(revoke)
    steps.approve("plan")


OTHERS_RIGHTS = """
SELECT c.relname AS name, g.privilege_type FROM pg_class c, aclexplode(c.relacl) g
WHERE c.relnamespace = 'pgrunbook'::regnamespace AND g.grantee <> c.relowner
UNION ALL
SELECT nspname, g.privilege_type FROM pg_namespace, aclexplode(nspacl) g
WHERE nspname = 'pgrunbook' AND g.grantee <> nspowner
"""


def test_default_privileges_give_nobody_rights_on_a_new_ledger(
    database: Database, module: Module, phase: Phase
) -> None:
    database.superuser("CREATE ROLE mallory")
    try:
        for kind in ("TABLES", "SEQUENCES", "SCHEMAS"):
            database.sql(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO mallory, PUBLIC")
        steps = Steps.of(module, database, phase)
        steps.begin()
        assert database.sql(OTHERS_RIGHTS) == []
        database.sql("GRANT SELECT ON pgrunbook.run TO mallory")
        steps.backfill(canary=True)
    finally:
        database.superuser("DROP OWNED BY mallory CASCADE; DROP ROLE mallory")


RIGHTS = {
    "GRANT ALL ON ALL TABLES IN SCHEMA pgrunbook TO mallory": (
        "may DELETE, INSERT, MAINTAIN, TRIGGER, TRUNCATE, UPDATE on pgrunbook.approval (and 6 more"
        " tables)",
        "REVOKE DELETE, INSERT, MAINTAIN, TRIGGER, TRUNCATE, UPDATE"
        ' ON ALL TABLES IN SCHEMA "pgrunbook" FROM "mallory"',
    ),
    "GRANT TRIGGER ON pgrunbook.batch TO PUBLIC": (
        "Every role (PUBLIC) may TRIGGER on pgrunbook.batch",
        'REVOKE TRIGGER ON ALL TABLES IN SCHEMA "pgrunbook" FROM PUBLIC',
    ),
    "GRANT UPDATE (operator) ON pgrunbook.run TO mallory": (
        "may UPDATE on pgrunbook.run",
        'REVOKE UPDATE ON ALL TABLES IN SCHEMA "pgrunbook" FROM "mallory"',
    ),
    "GRANT CREATE ON SCHEMA pgrunbook TO mallory": (
        "may CREATE in schema pgrunbook",
        'REVOKE CREATE ON SCHEMA "pgrunbook" FROM "mallory"',
    ),
}


@pytest.mark.parametrize("grant", RIGHTS)
def test_a_right_to_write_to_the_ledger_is_refused(
    database: Database, module: Module, phase: Phase, mallory: str, grant: str
) -> None:
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = Steps.of(module, database, phase)
    steps.begin()
    database.sql(grant)
    says, revoke = RIGHTS[grant]
    for name, arguments in (("backfill", {"canary": True}), ("run", {"state": "failed"})):
        refused = steps.refused(name, **arguments)
        assert says in refused and revoke in refused
    database.sql(revoke)
    steps.backfill(canary=True)


ATTACHED_TO_THE_LEDGER = {
    'DROP TRIGGER "t\'s" ON "pgrunbook"."batch"': (
        'CREATE TRIGGER "t\'s" BEFORE INSERT ON pgrunbook.batch FOR EACH ROW'
        " EXECUTE FUNCTION public.noted()"
    ),
    'DROP RULE "r" ON "pgrunbook"."event"': (
        "CREATE RULE r AS ON INSERT TO pgrunbook.event DO INSTEAD NOTHING"
    ),
}


@pytest.mark.parametrize("drop", ATTACHED_TO_THE_LEDGER)
def test_a_trigger_or_a_rule_of_a_ledgers_table_is_refused(
    database: Database, module: Module, phase: Phase, drop: str
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    database.sql(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    database.sql(ATTACHED_TO_THE_LEDGER[drop])
    run = steps.planned["run"]["id"]
    for name, arguments in (
        ("backfill", {"canary": True}),
        ("run", {"state": "failed"}),
        ("control", {"action": "pause", "run_id": run, "by": "alice"}),
    ):
        assert drop in steps.refused(name, **arguments)
    database.sql(drop)
    steps.backfill(canary=True)
