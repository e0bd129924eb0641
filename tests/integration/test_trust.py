# SPDX-License-Identifier: GPL-3.0-or-later
"""Code of others never runs as the login role, and rows that it may not see are never left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.connection import connect, one, sibling
from demo import data
from tests.integration.conftest import Database, Played, other_database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

# What a role that may only CREATE in public would have run as somebody else (CVE-2018-1058).
HIJACK = """
CREATE TABLE public.caught (who text);
GRANT INSERT ON public.caught TO PUBLIC;
CREATE FUNCTION public.format(text, bigint) RETURNS text LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN pg_catalog.format($1, $2); END $$;
CREATE FUNCTION public.jsonb_build_array(text, text, text) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.caught VALUES (current_user);
   RETURN pg_catalog.jsonb_build_array($1, $2, $3); END $$;
CREATE FUNCTION public.same(varchar, varchar) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO public.caught VALUES (current_user); RETURN $1::text = $2::text; END $$;
CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same);
"""


@pytest.fixture
def mallory(database: Database) -> Iterator[str]:
    """A role that may make things in public, where the demo's tables are."""
    database.superuser("CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory")
    yield "mallory"
    database.superuser("DROP OWNED BY mallory CASCADE; DROP ROLE mallory")


def steps_of(module: Module, database: Database, phase: Phase, **phase_of: Any) -> Steps:
    return Steps.of(module, database, {**phase, "phase_queries": [], **phase_of})


def test_a_schema_in_which_others_may_make_code_is_refused(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.sql(HIJACK, user=mallory)
    steps = steps_of(module, database, phase)
    for name in ("preflight", "plan", "check", "schema"):
        arguments = {"models": phase["phase_models"]} if name == "schema" else {}
        refused = steps.refused(name, check=True, **arguments)
        assert "'mallory'" in refused and "'public'" in refused
        assert 'REVOKE CREATE ON SCHEMA "public" FROM "mallory"' in refused
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    assert (
        "function public.format(text,bigint) (and 3 more) was made by role 'mallory'"
        in steps.refused("plan")
    )
    assert database.superuser("SELECT who FROM public.caught") == []


def test_a_role_that_the_phase_trusts_may_make_code(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.sql(
        "CREATE FUNCTION public.lower_country(varchar) RETURNS varchar IMMUTABLE"
        " RETURN pg_catalog.upper($1)::varchar",
        user=mallory,
    )
    country = {"name": "snapshot_country", "type": "varchar(2)"}
    phase["phase_columns"][1] = {**country, "source": "lower_country(geo_country)"}
    steps_of(module, database, phase, phase_trusted_roles=["mallory"]).forward()


def test_everybody_s_privilege_to_create_is_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    database.superuser("GRANT CREATE ON SCHEMA public TO PUBLIC")
    refused = steps_of(module, database, phase).refused("plan")
    assert 'REVOKE CREATE ON SCHEMA "public" FROM PUBLIC' in refused


def test_a_privilege_that_is_given_during_the_run_stops_it_and_its_rollback(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = steps_of(module, database, phase)
    steps.begin()
    database.superuser("GRANT CREATE ON SCHEMA public TO mallory")
    database.sql(HIJACK, user=mallory)
    assert "'mallory'" in steps.refused("backfill", canary=True)
    steps.do("run", state="failed", verdict="NO-GO")
    assert "'mallory'" in steps.refused("plan", rollback_of=steps.planned["run"]["id"])
    assert database.superuser("SELECT who FROM public.caught") == []


def test_what_bears_the_name_of_a_system_function_elsewhere_is_never_called(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    """The tables are in a schema of their own; the role's default path has public in it."""
    database.sql(HIJACK, user=mallory)
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    database.sql("CREATE SCHEMA app")
    for table in ("session_summaries", "ip_inventory"):
        database.sql(f"ALTER TABLE public.{table} SET SCHEMA app")
    schemas = {"phase_schema": "app", "phase_source_schema": "app"}
    steps = steps_of(module, database, phase, **schemas)
    steps.forward()
    steps.back()
    assert database.superuser("SELECT who FROM public.caught") == []


# What the role attaches to whatever it owns: it fails wherever another role runs it.
ATTACHED = """
CREATE SCHEMA mal AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA mal TO PUBLIC;
GRANT SELECT ON ip_inventory TO mallory;
CREATE TABLE visit (id int, place text, town text, region int, PRIMARY KEY (id, region))
  PARTITION BY LIST (region);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1);
CREATE TABLE visit_2 PARTITION OF visit FOR VALUES IN (2) PARTITION BY LIST (region);
CREATE TABLE visit_2_2 PARTITION OF visit_2 FOR VALUES IN (2);
CREATE TABLE place (name text PRIMARY KEY, town text);
INSERT INTO place VALUES ('a', 'X');
INSERT INTO visit SELECT n, 'a', NULL, 1 + n % 2 FROM generate_series(1, 90) n;
CREATE SCHEMA app;
CREATE TABLE app.ip_inventory AS SELECT * FROM ip_inventory;
ALTER TABLE app.ip_inventory ADD PRIMARY KEY (ip_address);
CREATE DOMAIN public.kind AS text;
CREATE TABLE public.zones AS SELECT 1 AS zone;
CREATE VIEW addresses AS SELECT * FROM ip_inventory;
ALTER TABLE visit OWNER TO {owner};
ALTER TABLE visit_1 OWNER TO {owner};
ALTER TABLE visit_2 OWNER TO {owner};
ALTER TABLE visit_2_2 OWNER TO {owner};
ALTER TABLE place OWNER TO {owner};
ALTER SCHEMA app OWNER TO {owner};
ALTER TABLE app.ip_inventory OWNER TO {owner};
ALTER VIEW addresses OWNER TO {owner};
ALTER TABLE zones OWNER TO {owner};
GRANT USAGE, CREATE ON SCHEMA app TO mallory;
SET ROLE mallory;
CREATE FUNCTION mal.really() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF current_user <> 'mallory' THEN RAISE 'this ran as %', current_user; END IF;
  RETURN true; END $$;
CREATE FUNCTION mal.evil() RETURNS boolean LANGUAGE plpgsql IMMUTABLE
  AS 'BEGIN RETURN mal.really(); END';
RESET ROLE;
"""
SHADOWED = {"phase_source_schema": "app"}
COUNTED = "SELECT count(*) FROM {table}, zones"
VISITS = {
    "phase_table": "visit",
    "phase_key": ["id", "region"],
    "phase_columns": [{"name": "town", "type": "text", "source": "town"}],
    "phase_source_table": "place",
    "phase_source_key": {"place": "name"},
    "phase_indexes": [],
}
OWNED: dict[str, tuple[str, dict[str, Any], str]] = {
    "the source view": (
        "ALTER VIEW addresses OWNER TO mallory;",
        {"phase_source_table": "addresses"},
        "view public.addresses",
    ),
    "a view below it": (
        "CREATE VIEW mal.lower AS SELECT * FROM public.ip_inventory WHERE mal.evil();"
        "ALTER VIEW mal.lower OWNER TO mallory;"
        "CREATE OR REPLACE VIEW addresses AS SELECT * FROM mal.lower;",
        {"phase_source_table": "addresses"},
        "view mal.lower",
    ),
    "the table below the source view": (
        "ALTER TABLE ip_inventory OWNER TO mallory; GRANT SELECT ON ip_inventory TO PUBLIC;"
        "GRANT CREATE ON SCHEMA public TO mallory; SET ROLE mallory;"
        "CREATE INDEX few ON public.ip_inventory (ip_type) WHERE mal.evil(); RESET ROLE;"
        "REVOKE CREATE ON SCHEMA public FROM mallory;",
        {"phase_source_table": "addresses"},
        "table public.ip_inventory",
    ),
    "a partition of a partition": (
        "ALTER TABLE visit_2_2 OWNER TO mallory; GRANT ALL ON visit_2_2 TO PUBLIC;"
        "SET ROLE mallory; ALTER TABLE public.visit_2_2 ADD CHECK (mal.evil()); RESET ROLE;",
        VISITS,
        "table public.visit_2_2",
    ),
    "the partitioned table above": (
        "ALTER TABLE visit OWNER TO mallory;",
        {**VISITS, "phase_table": "visit_1"},
        "table public.visit",
    ),
    "the type of a column": (
        "ALTER TABLE place ADD COLUMN kind text; SET ROLE mallory;"
        "CREATE DOMAIN mal.kind AS text; RESET ROLE;"
        "ALTER TABLE place ALTER town TYPE mal.kind[] USING NULL; SET ROLE mallory;"
        "ALTER DOMAIN mal.kind ADD CHECK (mal.evil()) NOT VALID; RESET ROLE;",
        {**VISITS, "phase_columns": [{"name": "town", "type": "text", "source": "town[1]"}]},
        "type mal.kind",
    ),
    "a domain that shadows another": (
        "SET ROLE mallory; CREATE DOMAIN app.kind AS text CHECK (mal.evil()); RESET ROLE;",
        {**SHADOWED, "source": "geo_country::kind::varchar"},
        "type app.kind",
    ),
    "a view that shadows a table of a query": (
        "SET ROLE mallory; CREATE VIEW app.zones AS SELECT 1 AS zone WHERE mal.evil();"
        "GRANT SELECT ON app.zones TO PUBLIC; RESET ROLE;",
        {**SHADOWED, "phase_queries": [{"name": "q", "snapshot": COUNTED, "baseline": COUNTED}]},
        "view app.zones",
    ),
    "a function that is named with its schema": (
        "SET ROLE mallory; CREATE FUNCTION mal.same(varchar) RETURNS varchar IMMUTABLE"
        " LANGUAGE plpgsql AS 'BEGIN PERFORM mal.evil(); RETURN $1; END'; RESET ROLE;",
        {"source": "mal.same(geo_country)"},
        "function mal.same(character varying)",
    ),
}


@pytest.mark.parametrize(("made", "changes", "named"), OWNED.values(), ids=OWNED.keys())
def test_what_an_untrusted_role_owns_is_not_read(
    database: Database,
    module: Module,
    phase: Phase,
    mallory: str,
    made: str,
    changes: dict[str, Any],
    named: str,
) -> None:
    """Whoever owns a relation or a type decides what reading it calls."""
    database.superuser(ATTACHED.replace("{owner}", data.ROLE) + made)
    database.superuser(
        "REVOKE CREATE ON SCHEMA public FROM mallory; REVOKE CREATE ON SCHEMA app FROM mallory"
    )
    given = {key: value for key, value in changes.items() if key != "source"}
    if "source" in changes:
        phase["phase_columns"][1]["source"] = changes["source"]
    steps = steps_of(module, database, phase, **given)
    for name in ("preflight", "plan"):
        refused = steps.refused(name, check=True)
        assert named in refused and "'mallory'" in refused and "phase_trusted_roles" in refused
        assert "OWNER TO" in refused
    steps = steps_of(module, database, phase, **given, phase_trusted_roles=[mallory])
    assert "belongs to" not in steps.attempt("plan", check=True).get("msg", "")


def test_an_owner_that_changes_during_the_run_stops_it(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = steps_of(module, database, phase)
    steps.begin()
    database.superuser(
        "ALTER TABLE ip_inventory OWNER TO mallory; GRANT SELECT ON ip_inventory TO PUBLIC"
    )
    assert "table public.ip_inventory" in steps.refused("backfill", canary=True)


def test_a_rollback_does_not_depend_on_who_owns_the_source(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    """Nor does it call what the owner attached to it."""
    database.superuser(ATTACHED.replace("{owner}", data.ROLE))
    database.superuser(
        "REVOKE CREATE ON SCHEMA public FROM mallory; REVOKE CREATE ON SCHEMA app FROM mallory"
    )
    before = database.state()["rows"]
    steps = steps_of(module, database, phase, phase_source_table="addresses")
    steps.begin()
    steps.backfill(canary=True)
    steps.do("run", state="failed")
    database.superuser(
        "CREATE OR REPLACE VIEW addresses AS SELECT * FROM ip_inventory WHERE mal.evil();"
        "ALTER VIEW addresses OWNER TO mallory"
    )
    assert "view public.addresses" in steps.refused("plan")
    steps.back()
    assert database.state()["rows"] == before


@pytest.mark.parametrize("rights", ["INHERIT FALSE, SET FALSE", "INHERIT TRUE, SET FALSE"])
def test_a_member_that_can_do_nothing_as_the_owner_is_not_trusted(
    any_database: Database, module: Module, phase: Phase, rights: str
) -> None:
    any_database.superuser("CREATE ROLE mallory LOGIN")
    try:
        any_database.superuser(
            f"CREATE SCHEMA app AUTHORIZATION {data.ROLE};"
            "ALTER TABLE session_summaries SET SCHEMA app; ALTER TABLE ip_inventory SET SCHEMA app;"
            f"GRANT {data.ROLE} TO mallory WITH {rights};"
            "GRANT CREATE ON SCHEMA app TO mallory"
        )
        schemas = {"phase_schema": "app", "phase_source_schema": "app"}
        planned = steps_of(module, any_database, phase, **schemas).attempt("plan", check=True)
        trusted = "INHERIT TRUE" in rights
        assert ("'mallory'" in planned.get("msg", "")) is not trusted
    finally:
        any_database.superuser("DROP OWNED BY mallory CASCADE; DROP ROLE mallory")


def test_a_ledger_that_somebody_else_made_first_is_refused(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    """Its tables could have triggers, which would run as the login role at the first approval."""
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = steps_of(module, database, phase)
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
    any_database: Database, module: Module, phase: Phase
) -> None:
    any_database.superuser("CREATE ROLE mallory")
    try:
        for kind in ("TABLES", "SEQUENCES", "SCHEMAS"):
            any_database.sql(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO mallory, PUBLIC")
        steps = steps_of(module, any_database, phase)
        steps.begin()
        assert any_database.sql(OTHERS_RIGHTS) == []
        any_database.sql("GRANT SELECT ON pgrunbook.run TO mallory")
        steps.backfill(canary=True)
    finally:
        any_database.superuser("DROP OWNED BY mallory CASCADE; DROP ROLE mallory")


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
    steps = steps_of(module, database, phase)
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
    steps = steps_of(module, database, phase)
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


HIDE_HALF = """
ALTER TABLE {0} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {0} FORCE ROW LEVEL SECURITY;
CREATE POLICY half ON {0} USING (hashtext({0}::text) % 2 = 0);
"""


@pytest.mark.parametrize("table", ["session_summaries", "ip_inventory"])
def test_policies_that_hide_rows_are_named_and_refused(
    database: Database, module: Module, phase: Phase, table: str
) -> None:
    steps = steps_of(module, database, phase)
    steps.begin()
    database.sql(HIDE_HALF.format(table))
    for name, check in (("preflight", True), ("plan", False), ("check", False)):
        refused = steps.refused(name, check=check)
        assert f"public.{table} (policies half)" in refused and "BYPASSRLS" in refused
    assert "policies half" in steps.refused("backfill", canary=True)
    steps.do("run", state="failed", verdict="NO-GO")
    assert "policies half" in steps.refused("plan", rollback_of=steps.planned["run"]["id"])


def test_policies_of_a_table_behind_the_source_view_are_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql("CREATE VIEW addresses AS SELECT * FROM ip_inventory")
    database.sql(HIDE_HALF.format("ip_inventory"))
    steps = steps_of(module, database, phase, phase_source_table="addresses")
    refused = steps.refused("plan", check=True)
    assert "cannot read all rows of public.addresses" in refused and '"ip_inventory"' in refused


def test_policies_that_do_not_apply_to_the_role_are_none_of_its_business(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql(HIDE_HALF.format("session_summaries"))
    database.sql("ALTER TABLE session_summaries NO FORCE ROW LEVEL SECURITY")
    steps_of(module, database, phase).forward()


def test_validation_says_why_it_judges_nothing(
    database: Database, playbook: Any, phase: Phase
) -> None:
    database.sql(HIDE_HALF.format("session_summaries"))
    played: Played = playbook(database.login, "validate", phase=phase)
    assert played.status != 0
    assert "public.session_summaries (policies half)" in " ".join(played.output.split())


def test_a_superuser_is_shown_or_refused(database: Database, module: Module, phase: Phase) -> None:
    login = {**database.login, "user": database.server.user}
    steps = steps_of(module, database, phase)
    steps.login = login
    gates = {gate["id"]: gate["status"] for gate in steps.do("preflight")["checks"]}
    assert gates["superuser"] == "warn"
    strict = steps_of(module, database, phase, phase_superuser="refuse")
    strict.login = login
    assert "login_role.yml" in strict.refused("preflight", check=True)
    strict.login = database.login
    gates = {gate["id"]: gate["status"] for gate in strict.do("preflight")["checks"]}
    assert gates["superuser"] == "pass"


SETTINGS = {
    "idle_session_timeout": "300ms",
    "idle_in_transaction_session_timeout": "300ms",
    "statement_timeout": "300ms",
    "lock_timeout": "1ms",
    "default_transaction_isolation": "serializable",
    "DateStyle": "SQL, DMY",
    "client_encoding": "LATIN1",
    "quote_all_identifiers": "on",
    "row_security": "on",
    "search_path": "public",
    "standard_conforming_strings": "off",
    "transaction_timeout": "300ms",
}


def test_what_the_role_has_set_for_itself_does_not_reach_a_run(
    any_database: Database, module: Module, phase: Phase
) -> None:
    with closing(any_database.connect(any_database.server.user)) as conn:
        known = {row["name"] for row in conn.execute("SELECT name FROM pg_settings")}
        for name in SETTINGS.keys() & known:
            conn.execute(f"ALTER ROLE {data.ROLE} SET {name} = '{SETTINGS[name]}'")
        try:
            with (
                connect(any_database.login, name="test", read_only=False) as ours,
                sibling(ours) as worker,
            ):
                for session, name in itertools.product(
                    (ours, worker), sorted(SETTINGS.keys() & known)
                ):
                    (shown,) = one(session, f"SHOW {name}").values()
                    assert shown != SETTINGS[name], name
            steps = steps_of(module, any_database, phase, phase_batch_rows=20)
            steps.forward()
            steps.back()
        finally:
            conn.execute(f"ALTER ROLE {data.ROLE} RESET ALL")


@pytest.mark.parametrize("schema", ["public", "données"])
def test_a_database_in_another_encoding_is_filled(
    database: Database, module: Module, phase: Phase, schema: str
) -> None:
    """The values have a letter that is two bytes in UTF-8 and one in LATIN1."""
    with other_database(database, "LATIN1") as latin:
        latin.sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        latin.sql(
            f'CREATE TABLE "{schema}".visit (id int PRIMARY KEY, place text, town varchar(20));'
            f'CREATE TABLE "{schema}".place (name text PRIMARY KEY, town text);'
            f"""INSERT INTO "{schema}".place VALUES ('café', 'Orléans');"""
            f"""INSERT INTO "{schema}".visit SELECT n, 'café' FROM generate_series(1, 300) n"""
        )
        column = {"name": "town", "type": "varchar(20)", "source": "town"}
        steps = steps_of(
            module,
            latin,
            phase,
            phase_schema=schema,
            phase_table="visit",
            phase_key=["id"],
            phase_columns=[column],
            phase_source_schema=schema,
            phase_source_table="place",
            phase_source_key={"place": "name"},
            phase_indexes=[],
        )
        steps.forward()
        filled = latin.sql(f'SELECT town, count(*) AS n FROM "{schema}".visit GROUP BY 1')
        assert filled == [{"town": "Orléans", "n": 300}]
        steps.do("run", state="failed", verdict="NO-GO", detail="wanted ≥ 95 % of café")
        assert module("pgrunbook_run_info", login=latin.login, reports=[])["altered"] == []
        steps.back()
        assert latin.sql(f'SELECT FROM "{schema}".visit WHERE town IS NOT NULL') == []


def test_a_database_that_does_not_know_its_characters_is_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    with other_database(database, "SQL_ASCII") as bytes_only:
        steps = steps_of(module, bytes_only, phase)
        assert "SQL_ASCII" in steps.refused("preflight", check=True)
