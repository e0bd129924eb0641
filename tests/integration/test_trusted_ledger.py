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
        ("preflight", {}),
        ("backfill", {"canary": True}),
        ("run", {"state": "failed"}),
        ("control", {"action": "pause", "run_id": run, "by": "alice"}),
    ):
        assert drop in steps.refused(name, **arguments)
    database.sql(drop)
    steps.backfill(canary=True)


FOREIGN = """
GRANT CREATE ON DATABASE {database} TO mallory;
SET ROLE mallory;
CREATE SCHEMA pgrunbook;
GRANT USAGE ON SCHEMA pgrunbook TO PUBLIC;
CREATE FUNCTION pgrunbook.caught() RETURNS text LANGUAGE plpgsql
AS $$ BEGIN RAISE 'caught as %', current_user; END $$;
CREATE VIEW pgrunbook.ledger AS SELECT 2 AS version, pgrunbook.caught() AS token;
CREATE VIEW pgrunbook.event AS SELECT pgrunbook.caught() AS hash;
CREATE VIEW pgrunbook.run AS SELECT pgrunbook.caught() AS id, 'running' AS state;
GRANT SELECT ON ALL TABLES IN SCHEMA pgrunbook TO PUBLIC;
"""
WITHOUT_A_PHASE: dict[str, Phase] = {
    "run_info": {},
    "control": {"action": "pause", "by": "alice"},
    "plan": {"rollback_of": "phase3-20260131T040506Z-1f2e"},
    "run": {"state": "running"},
}


@pytest.mark.parametrize("check", [True, False], ids=["dry", "run"])
@pytest.mark.parametrize("superuser", [False, True], ids=["owner", "superuser"])
def test_views_in_the_place_of_the_ledger_are_not_read(
    database: Database, module: Module, phase: Phase, mallory: str, superuser: bool, check: bool
) -> None:
    """The owner of a view decides what it calls, and it is called as whoever reads the view. A
    superuser may act as everybody, and trusts them no more for that."""
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = Steps.of(module, database, phase)
    steps.plan()
    if superuser:
        steps.login = {**steps.login, "user": database.server.user}
    database.superuser(FOREIGN.format(database=database.name))
    for name, arguments in WITHOUT_A_PHASE.items():
        refused = steps.refused(name, check=check, **arguments)
        assert "pgrunbook.run is no table" in refused and "caught" not in refused
    for name in ("preflight", "plan", "data_gates"):
        assert "'mallory'" in steps.refused(name, check=check)


ATTACHED_BY_ITS_OWNER = {
    "a trigger": "CREATE TRIGGER t BEFORE UPDATE ON pgrunbook.run FOR EACH ROW"
    " EXECUTE FUNCTION pgrunbook.fired()",
    "an index": "CREATE INDEX i ON pgrunbook.run ((pgrunbook.noted(1)))",
    "a constraint": "ALTER TABLE pgrunbook.run ADD CONSTRAINT k CHECK (pgrunbook.noted(1) > 0)",
    "a default": "ALTER TABLE pgrunbook.event ALTER previous SET DEFAULT pgrunbook.noted(1)::text",
    "a child": "CREATE TABLE pgrunbook.other () INHERITS (pgrunbook.run)",
    "a type": "ALTER TABLE pgrunbook.run ADD COLUMN more pgrunbook.checked",
}


@pytest.mark.parametrize("attached", ATTACHED_BY_ITS_OWNER.values(), ids=ATTACHED_BY_ITS_OWNER)
@pytest.mark.parametrize("superuser", [False, True], ids=["owner", "superuser"])
def test_what_an_untrusted_owner_attached_to_a_ledger_does_not_run(
    database: Database, module: Module, phase: Phase, mallory: str, attached: str, superuser: bool
) -> None:
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = Steps.of(module, database, phase)
    steps.begin()
    database.superuser(
        "DO $$ DECLARE t regclass; BEGIN"
        "  FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'pgrunbook'::regnamespace"
        "    AND relkind = 'r'"
        "  LOOP EXECUTE format('ALTER TABLE %s OWNER TO mallory', t); END LOOP; END $$;"
        f"ALTER SCHEMA pgrunbook OWNER TO mallory; GRANT USAGE ON SCHEMA pgrunbook TO {data.ROLE};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA pgrunbook TO {data.ROLE}"
    )
    database.sql(
        "CREATE FUNCTION pgrunbook.noted(int) RETURNS int LANGUAGE plpgsql IMMUTABLE"
        " AS 'BEGIN RETURN 1; END';"
        "CREATE DOMAIN pgrunbook.checked AS int CHECK (pgrunbook.noted(VALUE) > 0);"
        "CREATE FUNCTION pgrunbook.fired() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        user=mallory,
    )
    database.sql(attached, user=mallory)
    if superuser:
        steps.login = {**steps.login, "user": database.server.user}
    run = steps.planned["run"]["id"]
    for check in (True, False):
        for name, arguments in (
            ("run_info", {}),
            ("control", {"action": "pause", "run_id": run, "by": "alice"}),
            ("run", {"state": "failed"}),
        ):
            assert "none of the ledger's" in steps.refused(name, check=check, **arguments)
    assert "belongs to role 'mallory'" in steps.refused("plan")


def test_a_superuser_takes_the_ledger_of_whoever_may_act_as_the_tables_owner(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.login = {**steps.login, "user": database.server.user}
    steps.backfill(canary=True)
    steps.do("run_info")
