# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is resolved through what untrusted roles may make or own."""

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


@pytest.mark.representative
def test_a_schema_in_which_others_may_make_code_is_refused(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.sql(HIJACK, user=mallory)
    steps = Steps.of(module, database, phase)
    for name in ("preflight", "plan", "data_gates", "drift"):
        arguments = {"models": phase["phase_models"]} if name == "drift" else {}
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
    Steps.of(module, database, phase, phase_trusted_roles=["mallory"]).forward()


def test_everybody_s_privilege_to_create_is_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    database.superuser("GRANT CREATE ON SCHEMA public TO PUBLIC")
    refused = Steps.of(module, database, phase).refused("plan")
    assert 'REVOKE CREATE ON SCHEMA "public" FROM PUBLIC' in refused


def test_a_privilege_that_is_given_during_the_run_stops_it_and_its_rollback(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = Steps.of(module, database, phase)
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
    steps = Steps.of(module, database, phase, **schemas)
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
    steps = Steps.of(module, database, phase, **given)
    for name in ("preflight", "plan"):
        refused = steps.refused(name, check=True)
        assert named in refused and "'mallory'" in refused and "phase_trusted_roles" in refused
        assert "OWNER TO" in refused
    steps = Steps.of(module, database, phase, **given, phase_trusted_roles=[mallory])
    assert "belongs to" not in steps.attempt("plan", check=True).get("msg", "")


def test_an_owner_that_changes_during_the_run_stops_it(
    database: Database, module: Module, phase: Phase, mallory: str
) -> None:
    database.superuser("REVOKE CREATE ON SCHEMA public FROM mallory")
    steps = Steps.of(module, database, phase)
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
    steps = Steps.of(module, database, phase, phase_source_table="addresses")
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
    database: Database, module: Module, phase: Phase, rights: str
) -> None:
    database.superuser("CREATE ROLE mallory LOGIN")
    try:
        database.superuser(
            f"CREATE SCHEMA app AUTHORIZATION {data.ROLE};"
            "ALTER TABLE session_summaries SET SCHEMA app; ALTER TABLE ip_inventory SET SCHEMA app;"
            f"GRANT {data.ROLE} TO mallory WITH {rights};"
            "GRANT CREATE ON SCHEMA app TO mallory"
        )
        schemas = {"phase_schema": "app", "phase_source_schema": "app"}
        planned = Steps.of(module, database, phase, **schemas).attempt("plan", check=True)
        trusted = "INHERIT TRUE" in rights
        assert ("'mallory'" in planned.get("msg", "")) is not trusted
    finally:
        database.superuser("DROP OWNED BY mallory CASCADE; DROP ROLE mallory")
