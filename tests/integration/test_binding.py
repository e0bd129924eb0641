# SPDX-License-Identifier: GPL-3.0-or-later
"""What was approved is what is done: the phase, what surrounds the table, and the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.catalog import surroundings
from ansible.module_utils.pgrunbook.core.connection import connect
from demo import data
from tests.integration.conftest import Database, parsed
from tests.integration.steps import Steps

Module = Callable[..., dict[str, Any]]
Phase = dict[str, Any]

SET_UP = """
CREATE FUNCTION inner_of(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION "Outer"(text) RETURNS text LANGUAGE plpgsql IMMUTABLE
  AS 'BEGIN RETURN inner_of($1); END';
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER noted BEFORE UPDATE ON session_summaries FOR EACH ROW EXECUTE FUNCTION noted();
CREATE FUNCTION asn_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE VIEW below AS SELECT ip_address, asn_of(current_asn) AS current_asn, geo_country, ip_type
  FROM ip_inventory;
CREATE VIEW above AS SELECT * FROM below;
CREATE FUNCTION same(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2';
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = same);
"""
CHANGES = {
    "a trigger": (
        "CREATE TRIGGER other BEFORE UPDATE ON session_summaries"
        " FOR EACH ROW EXECUTE FUNCTION noted()",
        "trigger other on public.session_summaries is new",
    ),
    "a trigger that is not for the columns": (
        "CREATE TRIGGER other BEFORE INSERT ON session_summaries"
        " FOR EACH ROW EXECUTE FUNCTION noted()",
        "trigger other on public.session_summaries is new",
    ),
    "a trigger switched off": (
        "ALTER TABLE session_summaries DISABLE TRIGGER noted",
        "trigger noted on public.session_summaries was changed",
    ),
    "a trigger's function": (
        "CREATE OR REPLACE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN NEW.snapshot_asn = 1; RETURN NEW; END'",
        "function public.noted() was changed",
    ),
    "the source": (
        "CREATE OR REPLACE VIEW above AS SELECT ip_address, 1 AS current_asn, geo_country, ip_type"
        " FROM below",
        "view public.above was changed",
    ),
    "a view below the source": (
        "CREATE OR REPLACE VIEW below AS SELECT ip_address, 1 AS current_asn, geo_country, ip_type"
        " FROM ip_inventory",
        "view public.below was changed",
    ),
    "a function of a view": (
        "CREATE OR REPLACE FUNCTION asn_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'",
        "function public.asn_of(integer) was changed",
    ),
    "a function of an expression": (
        """CREATE OR REPLACE FUNCTION "Outer"(text) RETURNS text LANGUAGE sql IMMUTABLE
          AS 'SELECT ''XX''::text'""",
        'function public."Outer"(pg_catalog.text) was changed',
    ),
    "a function that a function calls": (
        "CREATE OR REPLACE FUNCTION inner_of(text) RETURNS text LANGUAGE sql IMMUTABLE"
        " AS 'SELECT ''XX''::text'",
        "function public.inner_of(pg_catalog.text) was changed",
    ),
    "an overload": (
        "CREATE FUNCTION inner_of(varchar) RETURNS text LANGUAGE sql AS 'SELECT ''XX''::text'",
        "function public.inner_of(character varying) is new",
    ),
    "one of the name of a function of PostgreSQL": (
        "CREATE FUNCTION upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT ''XX''::text'",
        "function public.upper(character varying) is new",
    ),
    "an operator's function": (
        "CREATE OR REPLACE FUNCTION same(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "function public.same(pg_catalog.text,pg_catalog.text) was changed",
    ),
    "a rule": (
        "CREATE RULE nothing AS ON UPDATE TO session_summaries WHERE OLD.risk_score > 90"
        " DO INSTEAD NOTHING",
        "rule nothing on public.session_summaries is new",
    ),
    "a policy": (
        "CREATE POLICY few ON session_summaries USING (risk_score > 1)",
        "policy few on public.session_summaries is new",
    ),
    "a policy of the source's table": (
        "CREATE POLICY few ON ip_inventory USING (is_bogon)",
        "policy few on public.ip_inventory is new",
    ),
    "row security": (
        "ALTER TABLE session_summaries ENABLE ROW LEVEL SECURITY",
        "table public.session_summaries was changed",
    ),
    "a default": (
        "ALTER TABLE session_summaries ALTER snapshot_ip_type SET DEFAULT 'VPN'",
        "column snapshot_ip_type of public.session_summaries was changed",
    ),
    "a column": (
        "ALTER TABLE session_summaries ADD COLUMN copied int GENERATED ALWAYS AS (snapshot_asn)"
        " STORED",
        "column copied of public.session_summaries is new",
    ),
    "the collation of a key": (
        'ALTER TABLE session_summaries ALTER source_ip TYPE varchar(45) COLLATE "C"',
        "column source_ip of public.session_summaries was changed",
    ),
    "a constraint": (
        "ALTER TABLE session_summaries ADD CONSTRAINT known CHECK (risk_score < 1000)",
        "constraint known on public.session_summaries is new",
    ),
    "an index on an expression": (
        "CREATE INDEX known ON session_summaries (asn_of(risk_score))",
        "index public.known is new",
    ),
}


@pytest.fixture
def surrounded(phase: Phase) -> Phase:
    """The phase with a view as its source, and functions in its expressions."""
    columns = [dict(column) for column in phase["phase_columns"]]
    sources = {
        "snapshot_asn": "current_asn",
        "snapshot_country": 'upper("Outer"(geo_country))',
        "snapshot_ip_type": "ip_type",
    }
    for column in columns:
        column["source"] = sources[column["name"]]
    return {
        **phase,
        "phase_source_table": "above",
        "phase_columns": columns,
        "phase_acknowledged": ["noted"],
        "phase_queries": [],
    }


def filled(database: Database) -> int:
    rows = database.sql("SELECT coalesce(sum(row_count), 0)::int AS n FROM pgrunbook.batch")
    count: int = rows[0]["n"]
    return count


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES.keys())
def test_what_is_different_after_the_approval_stops_the_next_step(
    database: Database, module: Module, surrounded: Phase, change: str, named: str
) -> None:
    database.sql(SET_UP)
    steps = Steps.of(module, database, surrounded)
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    before = filled(database)
    database.sql(change)
    message = steps.refused("backfill")
    assert "not there any more" in message and named in message
    assert filled(database) == before


LOOK = "CREATE VIEW look AS SELECT ip_address AS a, geo_country AS c FROM ip_inventory;"
ZZ = (
    "CREATE OR REPLACE VIEW look AS SELECT ip_address AS a, 'ZZ'::varchar(2) AS c FROM ip_inventory"
)
GIVEN_BACK = "FUNCTION {}(varchar) RETURNS varchar LANGUAGE sql STABLE AS 'SELECT $1'"
CHANGED = "CREATE OR REPLACE FUNCTION {}({}) RETURNS varchar LANGUAGE sql STABLE RETURN 'ZZ'"
SPELLED = {
    "a view in a subquery": (
        LOOK,
        "(SELECT l.c FROM look l WHERE l.a = ip_address)",
        ZZ,
        "view public.look was changed",
    ),
    "a view that a function reads": (
        LOOK + "CREATE FUNCTION cf(v varchar) RETURNS varchar LANGUAGE sql STABLE"
        " AS 'SELECT c FROM public.look WHERE a = v'",
        "cf(ip_address)",
        ZZ,
        "view public.look was changed",
    ),
    "a view that a parsed body reads": (
        LOOK + "CREATE FUNCTION cf(v varchar) RETURNS varchar LANGUAGE sql STABLE"
        " BEGIN ATOMIC SELECT c FROM look WHERE a = v; END",
        "cf(ip_address)",
        ZZ,
        "view public.look was changed",
    ),
    "a function of a view of a function": (
        "CREATE " + GIVEN_BACK.format("deep") + ";"
        "CREATE VIEW look AS SELECT ip_address AS a, deep(geo_country) AS c FROM ip_inventory;"
        "CREATE FUNCTION cf(v varchar) RETURNS varchar LANGUAGE plpgsql STABLE"
        " AS 'BEGIN RETURN (SELECT c FROM public.look WHERE a = v); END'",
        "cf(ip_address)",
        CHANGED.format("deep", "varchar"),
        "function public.deep(character varying) was changed",
    ),
    "a comment before the parenthesis": (
        "CREATE " + GIVEN_BACK.format("cc"),
        "cc /* of it */ (geo_country)",
        CHANGED.format("cc", "varchar"),
        "function public.cc(character varying) was changed",
    ),
    "a capital that is not ASCII": (
        "CREATE " + GIVEN_BACK.format('"É"'),
        "É(geo_country)",
        CHANGED.format('"É"', "varchar"),
        'function public."É"(character varying) was changed',
    ),
    "an operator of a third schema": (
        "CREATE SCHEMA third; CREATE FUNCTION third.pick(varchar, varchar) RETURNS varchar"
        " LANGUAGE sql STABLE AS 'SELECT $1'; CREATE OPERATOR third.@@@"
        " (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = third.pick)",
        "geo_country OPERATOR(third.@@@) geo_country",
        CHANGED.format("third.pick", "varchar, varchar"),
        "function third.pick(character varying,character varying) was changed",
    ),
    "a policy's view": (
        LOOK + "CREATE POLICY few ON ip_inventory"
        " USING (EXISTS (SELECT FROM look l WHERE l.a = ip_address))",
        "geo_country",
        ZZ,
        "view public.look was changed",
    ),
    "a rule of a table that a trigger writes to": (
        "CREATE TABLE noted (n int); CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO noted VALUES (1); RETURN NEW; END';"
        "CREATE TRIGGER noted BEFORE UPDATE ON session_summaries"
        " FOR EACH ROW EXECUTE FUNCTION noted()",
        "geo_country",
        "CREATE RULE nothing AS ON INSERT TO noted DO INSTEAD NOTHING",
        "rule nothing on public.noted is new",
    ),
}


@pytest.mark.parametrize(
    ("made", "expression", "change", "named"), SPELLED.values(), ids=SPELLED.keys()
)
def test_what_an_expression_uses_is_found_however_it_is_written(
    database: Database,
    module: Module,
    phase: Phase,
    made: str,
    expression: str,
    change: str,
    named: str,
) -> None:
    database.sql(made)
    columns = [dict(column) for column in phase["phase_columns"]]
    for column in columns:
        if column["name"] == "snapshot_country":
            column["source"] = expression
    changes = {"phase_columns": columns, "phase_queries": [], "phase_acknowledged": ["noted"]}
    steps = Steps.of(module, database, {**phase, **changes})
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    database.sql(change)
    assert named in steps.refused("backfill")


def test_what_is_different_while_the_question_is_open_leaves_no_ledger(
    database: Database, module: Module, surrounded: Phase
) -> None:
    database.sql(SET_UP)
    steps = Steps.of(module, database, surrounded)
    steps.plan()
    database.sql(CHANGES["the source"][0])
    before = database.fingerprint()
    assert "view public.above was changed" in steps.refused("approval", **steps.approval("plan"))
    assert database.fingerprint() == before


@pytest.mark.parametrize("writer", ["column", "index"])
def test_a_step_of_the_schema_is_stopped_too(
    database: Database, module: Module, surrounded: Phase, writer: str
) -> None:
    database.sql(SET_UP)
    steps = Steps.of(module, database, surrounded)
    steps.plan()
    steps.approve("plan")
    if writer == "index":
        steps.do("column")
    database.sql(CHANGES["a trigger"][0])
    before = database.state()
    given = {"actions": ["rename"]} if writer == "index" else {}
    assert "trigger other" in steps.refused(writer, **given)
    assert database.state() == before


def test_a_trigger_made_after_the_approval_stops_a_rollback_and_a_view_does_not(
    database: Database, module: Module, surrounded: Phase
) -> None:
    database.sql(SET_UP)
    steps = Steps.of(module, database, surrounded)
    steps.begin()
    steps.backfill(canary=True)
    steps.do("run", state="failed")
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")
    database.sql(CHANGES["a trigger"][0])
    assert "trigger other" in steps.refused("backfill", state="reverted")
    database.sql("DROP TRIGGER other ON session_summaries")
    database.sql(CHANGES["the source"][0])
    assert steps.backfill(state="reverted")["rows_done"] == 0


def test_the_runs_own_changes_are_none(database: Database, module: Module, phase: Phase) -> None:
    """A rename, a conversion, and indexes renamed, dropped and built, under a view, a generated
    column, a policy and a function that name the columns; an expression reads the first and the
    last."""
    database.sql(
        "ALTER TABLE session_summaries RENAME COLUMN snapshot_asn TO asn;"
        "ALTER TABLE session_summaries ALTER asn TYPE text USING asn::text;"
        "CREATE VIEW seen AS SELECT snapshot_ip_types, asn FROM session_summaries;"
        "CREATE POLICY few ON session_summaries USING (snapshot_ip_types <> '' OR asn IS NULL);"
        "ALTER TABLE session_summaries ADD CHECK (snapshot_ip_types <> 'x');"
        "ALTER TABLE session_summaries ADD COLUMN kind text"
        "  GENERATED ALWAYS AS (upper(snapshot_ip_types)) STORED;"
        "CREATE FUNCTION any_type() RETURNS varchar LANGUAGE sql STABLE"
        "  BEGIN ATOMIC SELECT snapshot_ip_types FROM session_summaries LIMIT 1; END;"
    )
    for column in phase["phase_columns"]:
        if column["name"] == "snapshot_country":
            read = "any_type() = '' OR EXISTS (SELECT FROM seen)"
            column["source"] = f"CASE WHEN ({read}) IS NOT NULL THEN geo_country END"
        if column["name"] == "snapshot_asn":
            column |= {
                "renamed_from": "asn",
                "converted_from": "text",
                "using": "{snapshot_asn}::int",
            }
    acknowledged = ["asn", "public.seen", "few on public.session_summaries"]
    phase |= {"phase_queries": [], "phase_acknowledged": acknowledged}
    steps = Steps.of(module, database, phase)
    steps.forward()
    spec = parsed(phase)
    with connect(database.login, name="test", read_only=True, schemas=["public"]) as conn:
        after = surroundings.read(conn, spec, catalog.inspect(conn, spec.table))
    assert surroundings.changes(steps.planned["plan"]["surroundings"], after) == []
    assert "column snapshot_asn of public.session_summaries" in after
    assert {"view public.seen", "function public.any_type()"} <= after.keys()


@pytest.mark.representative
def test_the_phase_is_the_approved_one_whatever_is_passed(
    database: Database, module: Module, phase: Phase
) -> None:
    """The variables file is another one by now: expressions, thresholds and gates."""
    steps = Steps.of(module, database, phase)
    steps.begin()
    approved = steps.spec
    steps.spec = {
        **approved,
        "columns": [{**column, "source": "NULL"} for column in approved["columns"]],
        "canary_rows": 7,
        "coverage_min": 0.0,
        "gates": {"coverage": "warn"},
        "queries": [],
        "lock_timeout_ms": 1,
    }
    assert steps.do("backfill", canary=True)["rows_done"] == approved["canary_rows"]
    run = steps.planned["run"]
    (coverage,) = [c for c in steps.do("data_gates", run=run)["checks"] if c["id"] == "coverage"]
    assert coverage["status"] == "fail" and "95" in coverage["target"]
    assert len(steps.do("query_gates", run=run)["checks"]) == len(approved["queries"])
    schema = steps.do("drift", run=run, models=phase["phase_models"])
    assert [check["id"] for check in schema["checks"]] == ["schema"]


def test_a_plan_that_was_changed_in_the_ledger_is_not_followed(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    database.sql("UPDATE pgrunbook.approval SET plan = jsonb_set(plan, '{spec,canary_rows}', '9')")
    message = steps.refused("backfill", canary=True)
    assert "no longer has the hash" in message


def test_triggers_for_replicas_are_not_fired_in_place_of_the_others(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    login = Identifier(data.ROLE), Identifier(database.name)
    database.superuser(
        SQL("ALTER ROLE {} IN DATABASE {} SET session_replication_role = replica").format(*login)
    )
    for name, arguments in (("plan", {}), ("backfill", {"canary": True})):
        refused = steps.refused(name, **arguments)
        assert "session_replication_role" in refused and "'replica'" in refused
        assert "RESET session_replication_role" in refused
