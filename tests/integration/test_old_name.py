# SPDX-License-Identifier: GPL-3.0-or-later
"""Which statements still name an old column, by pg_stat_statements of a server that has it. The
embedded ones do not, so it is one of this machine's packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo import server as demo_server
from tests.integration.conftest import SESSIONS, Database, _copy
from tests.integration.servers import started
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

LOADED = {"shared_preload_libraries": "pg_stat_statements", "compute_query_id": "on"}
HOME = 'a "place" of its own'


@pytest.fixture(scope="module")
def counting_server() -> Iterator[demo_server.Server]:
    found = sorted(Path("/usr/lib/postgresql").glob("1[4-9]/lib/pg_stat_statements.so"))
    if not found:
        pytest.skip("no PostgreSQL is installed on this machine, and the embedded ones lack it")
    home = found[-1].parents[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_server, "bin_dir", lambda version: home / "bin")
        with started("counting", int(home.name), LOADED, sessions=SESSIONS) as (server, _):
            yield server


@pytest.fixture
def bare(counting_server: demo_server.Server) -> Iterator[Database]:
    """A database without the extension."""
    yield from _copy(counting_server)


@pytest.fixture
def database(bare: Database) -> Iterator[Database]:
    """A database that has it in a schema with an odd name, and an application's role."""
    quoted = '"' + HOME.replace('"', '""') + '"'
    bare.superuser(
        f"CREATE SCHEMA {quoted}; GRANT USAGE ON SCHEMA {quoted} TO PUBLIC;"
        f"CREATE EXTENSION pg_stat_statements SCHEMA {quoted};"
        f"CREATE ROLE shop LOGIN; GRANT SELECT ON session_summaries, ip_inventory TO shop;"
    )
    bare.superuser(f'GRANT pg_read_all_stats TO "{bare.login["user"]}"')
    yield bare
    bare.superuser("DROP OWNED BY shop; DROP ROLE shop")
    bare.superuser(f'REVOKE pg_read_all_stats FROM "{bare.login["user"]}"')


def say(database: Database, *statements: str, role: str = "shop") -> None:
    """Send statements as an application does."""
    login = {**database.login, "user": role}
    login = {key: value for key, value in login.items() if key in ("host", "port", "user")}
    with psycopg.connect(**login, dbname=database.name, autocommit=True) as conn:
        for statement in statements:
            conn.execute(statement)


def gate_of(steps: Steps, name: str = "preflight", **arguments: Any) -> dict[str, Any]:
    checks = steps.do(name, **arguments)["checks"]
    found = [check for check in checks if check["id"] == "old_name"]
    return found[0] if found else {}


OF_OLD_NAME = (
    "SELECT snapshot_ip_types FROM session_summaries WHERE session_id = 'of Alice'",
    'SELECT s."snapshot_ip_types" /* hello */ FROM public.session_summaries s LIMIT 7',
)
OF_NO_OLD_NAME = (
    "SELECT session_id AS snapshot_ip_types_2 FROM session_summaries LIMIT 3",
    "SELECT session_id FROM session_summaries WHERE matcher = 'snapshot_ip_types'",
    "SELECT session_id FROM session_summaries /* snapshot_ip_types */ LIMIT 1",
    'SELECT session_id AS "SNAPSHOT_IP_TYPES" FROM session_summaries LIMIT 2',
    "SELECT 1 AS snapshot_ip_types FROM ip_inventory",
)


def test_statements_that_name_the_column_are_listed_with_who_and_how_often(
    database: Database, module: Module, phase: Phase
) -> None:
    say(database, *OF_NO_OLD_NAME)
    steps = Steps.of(module, database, phase)
    assert gate_of(steps)["status"] == "pass"
    assert gate_of(steps)["measured"].startswith("none, counted since 2")
    say(database, *OF_OLD_NAME, OF_OLD_NAME[0])
    found = gate_of(steps)
    assert found["status"] == "warn" and found["target"] == "no statement names snapshot_ip_types"
    told = [(each["role"], each["calls"]) for each in found["evidence"]["statements"]]
    assert told == [("shop", 2), ("shop", 1)]
    assert "2 statements, counted since " in found["measured"]
    assert "shop, 2 calls" in found["measured"]
    assert (
        "SELECT snapshot_ip_types FROM session_summaries WHERE session_id = $1"
        in (found["measured"])
    )
    since = {each["since"] is None for each in found["evidence"]["statements"]}
    assert since == {database.sql("SHOW server_version_num")[0]["server_version_num"] < "170000"}
    assert "Alice" not in str(found) and "hello" not in str(found)
    assert "from the rename on they fail" in found["measured"]


def test_what_the_runbook_sends_itself_is_not_listed(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_queries": []})
    steps.forward()
    found = gate_of(steps, "data_gates") or gate_of(steps, "preflight")
    assert found["status"] == "pass" and found["evidence"]["own"] > 0, found
    assert f"of our own role {database.login['user']}" in found["measured"]
    database.sql(
        "SELECT snapshot_ip_type AS snapshot_ip_types FROM pgrunbook.run, session_summaries"
    )
    assert gate_of(steps)["status"] == "pass"


def test_after_the_rename_it_says_that_what_fails_is_not_counted(
    database: Database, module: Module, phase: Phase
) -> None:
    say(database, OF_OLD_NAME[0])
    steps = Steps.of(module, database, phase)
    steps.begin()
    for _ in range(3):
        with pytest.raises(psycopg.errors.UndefinedColumn):
            say(database, OF_OLD_NAME[0])
    later = {"unfilled_max": 10**6, "grace_seconds": 0}
    found = gate_of(steps, "data_gates", **later)
    assert (found["status"], found["evidence"]["statements"][0]["calls"]) == ("warn", 1)
    assert "PostgreSQL counts no statement that fails" in found["measured"]
    database.superuser(f'SELECT "{HOME.replace(chr(34), chr(34) * 2)}".pg_stat_statements_reset()')
    assert gate_of(steps, "data_gates", **later)["status"] == "pass"


def test_what_cannot_be_seen_is_said(database: Database, module: Module, phase: Phase) -> None:
    say(database, *OF_OLD_NAME)
    database.superuser(f'REVOKE pg_read_all_stats FROM "{database.login["user"]}"')
    steps = Steps.of(module, database, phase)
    found = gate_of(steps)
    assert found["status"] == "pass" and found["evidence"]["unreadable"] >= 2
    assert "of other roles, whose text needs pg_read_all_stats" in found["measured"]
    quoted = '"' + HOME.replace('"', '""') + '"'
    database.superuser(f"REVOKE ALL ON FUNCTION {quoted}.pg_stat_statements FROM PUBLIC")
    assert gate_of(steps)["measured"] == (
        f"not known: role {database.login['user']!r} may not call function pg_stat_statements"
    )


def test_a_function_that_somebody_put_in_its_place_is_not_called(
    database: Database, module: Module, phase: Phase
) -> None:
    quoted = '"' + HOME.replace('"', '""') + '"'
    out = database.superuser(
        "SELECT pg_get_function_result(p.oid) AS result, pg_get_function_arguments(p.oid) AS args"
        " FROM pg_proc p WHERE proname = 'pg_stat_statements'"
    )[0]
    database.superuser(
        f"CREATE OR REPLACE FUNCTION {quoted}.pg_stat_statements({out['args']})"
        " RETURNS SETOF record LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$"
    )
    found = gate_of(Steps.of(module, database, phase))
    assert found["measured"].startswith("not known: ") and found["status"] == "pass"


def test_without_the_extension_there_is_no_gate(
    bare: Database, module: Module, phase: Phase
) -> None:
    assert gate_of(Steps.of(module, bare, phase)) == {}
