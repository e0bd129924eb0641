# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role sees, may and has set, and how its database encodes text."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.connection import connect, one
from ansible.module_utils.pgrunbook.core.sibling import sibling
from demo import data
from tests.integration.conftest import Database, Played, other_database
from tests.integration.steps import Module, Steps

HIDE_HALF = """
ALTER TABLE {0} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {0} FORCE ROW LEVEL SECURITY;
CREATE POLICY half ON {0} USING (hashtext({0}::text) % 2 = 0);
"""

Phase = dict[str, Any]


@pytest.fixture
def phase(phase: Phase) -> Phase:
    return {**phase, "phase_queries": []}


@pytest.mark.parametrize("table", ["session_summaries", "ip_inventory"])
def test_policies_that_hide_rows_are_named_and_refused(
    database: Database, module: Module, phase: Phase, table: str
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    database.sql(HIDE_HALF.format(table))
    for name, check in (("preflight", True), ("plan", False), ("data_gates", False)):
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
    steps = Steps.of(module, database, phase, phase_source_table="addresses")
    refused = steps.refused("plan", check=True)
    assert "cannot read all rows of public.addresses" in refused and '"ip_inventory"' in refused


def test_policies_that_do_not_apply_to_the_role_are_none_of_its_business(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql(HIDE_HALF.format("session_summaries"))
    database.sql("ALTER TABLE session_summaries NO FORCE ROW LEVEL SECURITY")
    Steps.of(module, database, phase).forward()


def test_validation_says_why_it_judges_nothing(
    database: Database, playbook: Any, phase: Phase
) -> None:
    database.sql(HIDE_HALF.format("session_summaries"))
    played: Played = playbook(database.login, "validate", phase=phase)
    assert played.status != 0
    assert "public.session_summaries (policies half)" in " ".join(played.output.split())


def test_a_superuser_is_shown_or_refused(database: Database, module: Module, phase: Phase) -> None:
    login = {**database.login, "user": database.server.user}
    steps = Steps.of(module, database, phase)
    steps.login = login
    gates = {gate["id"]: gate["status"] for gate in steps.do("preflight")["checks"]}
    assert gates["superuser"] == "warn"
    strict = Steps.of(module, database, phase, phase_superuser="refuse")
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
    database: Database, module: Module, phase: Phase
) -> None:
    with closing(database.connect(database.server.user)) as conn:
        known = {row["name"] for row in conn.execute("SELECT name FROM pg_settings")}
        for name in SETTINGS.keys() & known:
            conn.execute(f"ALTER ROLE {data.ROLE} SET {name} = '{SETTINGS[name]}'")
        try:
            with (
                connect(database.login, name="test", read_only=False) as ours,
                sibling(ours) as worker,
            ):
                for session, name in itertools.product(
                    (ours, worker), sorted(SETTINGS.keys() & known)
                ):
                    (shown,) = one(session, f"SHOW {name}").values()
                    assert shown != SETTINGS[name], name
            steps = Steps.of(module, database, phase, phase_batch_rows=20)
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
        steps = Steps.of(
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
        steps = Steps.of(module, bytes_only, phase)
        assert "SQL_ASCII" in steps.refused("preflight", check=True)
