# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that a phase logs in as: it may run the phase and little else, and its password stays
on the client."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Composed, Identifier

from ansible.module_utils.pgrunbook.core.sql import render
from ansible.module_utils.pgrunbook.ddl.login_role import membership
from demo import data
from tests.integration.conftest import Database, Played, options
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

NAMES = ["runner", 'Runner "of" it\'s 100% {x} Größe;--']
PARTS = 'Parts "of" 100% {x}'


@dataclass(frozen=True)
class Given:
    """A database where a role has only what it is granted, and the names of the roles of a test.

    Neither the owner of the table nor everybody may use the schema, and the source belongs to
    somebody else.
    """

    database: Database
    role: str
    other: str
    module: Module
    spec: dict[str, Any]

    @property
    def admin(self) -> dict[str, Any]:
        return {**self.database.login, "user": self.database.server.user}

    def make(self, **arguments: Any) -> dict[str, Any]:
        """What the module returns, also where it fails."""
        given = {"login": self.admin, "spec": self.spec, "name": self.role}
        return self.module("pgrunbook_login_role", **{**given, **arguments})

    def made(self, **arguments: Any) -> dict[str, Any]:
        result = self.make(**arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, **arguments: Any) -> str:
        result = self.make(**arguments)
        assert result.get("failed"), "it should have been refused"
        message: str = result["msg"]
        assert "Next step" in message, message
        return message

    def steps(self) -> Steps:
        """The phase's steps, as the role."""
        return Steps(self.module, {**self.database.login, "user": self.role}, self.spec)

    def named(self, statement: str) -> Composed:
        names = {"role": self.role, "other": self.other, "owner": data.ROLE, "parts": PARTS}
        identifiers = {key: Identifier(value) for key, value in names.items()}
        return SQL(statement).format(database=Identifier(self.database.name), **identifiers)

    def superuser(self, *statements: str) -> list[Any]:
        """Run statements that name {role}, {other}, {owner} and {database}; the last one's rows."""
        return [self.database.superuser(self.named(each)) for each in statements][-1]

    def allowed(self, statement: str) -> bool:
        """Whether the role may run a statement."""
        try:
            self.database.sql(self.named(statement), user=self.role)
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def roles(self) -> list[Any]:
        """Everything that the catalog has of roles and rights."""
        return [
            self.superuser(f"SELECT t::text FROM {catalog} t ORDER BY 1")
            for catalog in ("pg_authid", "pg_auth_members", "pg_database", "pg_namespace")
        ] + [self.superuser("SELECT oid, relowner, relacl::text FROM pg_class ORDER BY 1")]


@contextmanager
def prepared(
    database: Database, module: Module, phase: Phase, role: str = NAMES[0]
) -> Iterator[Given]:
    names = f"{role} {database.name}", f"other {database.name}"
    spec = options({**phase, "phase_speedup_min": 0.001})
    given = Given(database, *names, module, spec)
    given.superuser(
        "CREATE ROLE {other}",
        "ALTER DATABASE {database} OWNER TO {other}",
        "ALTER TABLE ip_inventory OWNER TO {other}",
        "CREATE TABLE others (n integer)",
        "ALTER TABLE others OWNER TO {other}",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    )
    yield given
    given.superuser("ALTER DATABASE {database} OWNER TO CURRENT_USER")
    known = {row["rolname"] for row in given.superuser("SELECT rolname FROM pg_roles")}
    for name in {given.role, given.other} & known:
        for statement in ("DROP OWNED BY {} CASCADE", "DROP ROLE {}"):
            given.database.superuser(SQL(statement).format(Identifier(name)))


@pytest.fixture(params=NAMES, ids=["plain", "quoted"])
def any_given(
    any_database: Database,
    module: Module,
    phase: Phase,
    request: pytest.FixtureRequest,
) -> Iterator[Given]:
    with prepared(any_database, module, phase, request.param) as given:
        yield given


@pytest.fixture
def given(database: Database, module: Module, phase: Phase) -> Iterator[Given]:
    with prepared(database, module, phase) as given:
        yield given


def test_runs_the_phase_and_takes_it_back(any_given: Given) -> None:
    any_given.made()
    steps = any_given.steps()
    steps.forward()
    steps.back()
    assert any_given.made()["changed"] is False


def test_check_mode_tells_and_writes_nothing(any_given: Given) -> None:
    password = secrets.token_hex(12)
    before = any_given.roles()
    dry = any_given.made(check=True, password=password)
    assert any_given.roles() == before
    assert dry["proof"] == {"read_only": True, "xid": None}
    real = any_given.made(password=password)
    assert any_given.roles() != before
    assert dry["changed"] is real["changed"] is True
    assert dry.keys() == real.keys()
    for key in ("queries", "diff", "may"):
        assert dry[key] == real[key] != []
    assert len(real["queries"]) == len(real["may"]) == 8
    assert real["diff"]["before"] == ""
    assert real["diff"]["after"] == "".join(f"may {may}\n" for may in real["may"])


def test_is_idempotent(any_given: Given) -> None:
    password = secrets.token_hex(12)
    any_given.made(password=password)
    before = any_given.roles()
    for check in (True, False):
        again = any_given.made(check=check, password=password)
        assert (again["changed"], again["queries"]) == (False, [])
        assert again["diff"]["before"] == again["diff"]["after"] != ""
    assert any_given.roles() == before


def test_has_no_attribute_but_login(given: Given) -> None:
    given.made()
    (row,) = given.superuser(
        f"SELECT * FROM pg_roles WHERE rolname = 'runner {given.database.name}'"
    )
    flags = {key for key, value in row.items() if value is True}
    assert flags == {"rolcanlogin", "rolinherit"}
    assert row["rolconnlimit"] == -1


PERMITTED = ["SELECT FROM session_summaries", "SELECT FROM ip_inventory"]
FORBIDDEN = [
    "CREATE ROLE somebody",
    "CREATE DATABASE another",
    "DROP DATABASE {database}",
    "ALTER ROLE {role} SUPERUSER",
    "ALTER ROLE {other} LOGIN",
    "ALTER SYSTEM SET work_mem = '1GB'",
    "SELECT FROM pg_authid",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY pg_class TO PROGRAM 'true'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "GRANT {other} TO {role}",
    "SET ROLE {other}",
    "SET ROLE {owner}",
    "SELECT FROM others",
    "UPDATE ip_inventory SET current_asn = 1",
    "DELETE FROM ip_inventory",
    "DROP TABLE ip_inventory",
]


def test_may_do_what_the_phase_needs_and_little_else(given: Given) -> None:
    given.made()
    assert [statement for statement in PERMITTED if not given.allowed(statement)] == []
    assert [statement for statement in FORBIDDEN if given.allowed(statement)] == []


def begin(steps: Steps) -> None:
    steps.do("preflight")
    if not steps.planned:
        steps.plan()
        steps.approve("plan")
    steps.do("column")
    steps.do("index", actions=["rename"])


def see_others(steps: Steps) -> None:
    with psycopg.connect(**steps.login) as conn:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"
        hidden = conn.execute(query).fetchone()
    assert hidden == (0,), "sessions are hidden"


Work = Callable[[Steps], None]
GRANTS: dict[str, tuple[str, Work, str]] = {
    "membership in the owner": ("REVOKE {owner} FROM {role}", begin, "may not alter"),
    "statistics": ("REVOKE pg_read_all_stats FROM {role}", see_others, "are hidden"),
    "CREATE on the database": (
        "REVOKE CREATE ON DATABASE {database} FROM {role}",
        begin,
        "may not make the ledger",
    ),
    "CREATE on the schema": (
        "REVOKE CREATE ON SCHEMA public FROM {role}",
        begin,
        "denied for schema public",
    ),
    "USAGE on the schema": (
        "REVOKE USAGE ON SCHEMA public FROM {role}",
        begin,
        "denied for schema public",
    ),
    "SELECT on the source": ("REVOKE SELECT ON ip_inventory FROM {role}", begin, "may not read"),
    "LOGIN": ("ALTER ROLE {role} NOLOGIN", begin, "not permitted to log in"),
}


@pytest.mark.parametrize("grant", GRANTS)
def test_each_grant_is_needed_and_given_back(given: Given, grant: str) -> None:
    revoke, work, says = GRANTS[grant]
    granted = given.made()["queries"]
    given.superuser(revoke)
    steps = given.steps()
    with pytest.raises(AssertionError, match=says):
        work(steps)
    (again,) = given.made()["queries"]
    assert again in granted or again == f'ALTER ROLE "{given.role}" LOGIN INHERIT'
    work(steps)


def test_a_role_that_inherits_nothing_is_mended(given: Given) -> None:
    given.superuser("CREATE ROLE {role} NOLOGIN NOINHERIT", "GRANT {owner} TO {role}")
    queries = given.made()["queries"]
    assert queries[0] == f'ALTER ROLE "{given.role}" LOGIN INHERIT'
    begin(given.steps())


def test_a_ledger_that_is_there(given: Given) -> None:
    """It takes CREATE on the database to make the tables of one that has none."""
    given.superuser("CREATE SCHEMA pgrunbook AUTHORIZATION {owner}")
    assert any(query.startswith("GRANT CREATE ON DATABASE") for query in given.made()["queries"])
    begin(given.steps())
    given.superuser("REVOKE CREATE ON DATABASE {database} FROM {role}")
    assert given.made()["changed"] is False
    given.steps().do("preflight")


@pytest.mark.parametrize("version", [140000, 150015])
def test_before_version_16_membership_has_no_options(version: int) -> None:
    assert render(membership("o", "r", version)) == 'GRANT "o" TO "r"'


def test_grants_nothing_that_the_owner_may(given: Given) -> None:
    """The owner has the database, and with it the schema, and the source."""
    given.superuser(
        "ALTER DATABASE {database} OWNER TO {owner}", "ALTER TABLE ip_inventory OWNER TO {owner}"
    )
    grants = [query for query in given.made()["queries"] if query.startswith("GRANT")]
    options = f'TO "{given.role}" WITH INHERIT TRUE, SET FALSE'
    assert grants == [f'GRANT "{data.ROLE}" {options}', f'GRANT "pg_read_all_stats" {options}']
    given.steps().forward()


def test_the_owner_itself_gets_only_what_it_lacks(given: Given) -> None:
    result = given.made(check=True, name=data.ROLE)
    assert not [query for query in result["queries"] if "ROLE" in query or data.ROLE in query[:25]]
    assert any("SELECT" in query for query in result["queries"])


def test_needs_no_right_to_create_without_indexes(given: Given) -> None:
    spec = {**given.spec, "indexes": []}
    assert not [
        query
        for query in given.made(check=True, spec=spec)["queries"]
        if "SCHEMA" in query and "CREATE" in query
    ]


def test_a_partition_in_another_schema_with_another_owner(given: Given) -> None:
    given.superuser(
        "CREATE SCHEMA {parts}",
        "CREATE TABLE p (LIKE session_summaries) PARTITION BY LIST (matcher)",
        "CREATE TABLE {parts}.a PARTITION OF p DEFAULT",
        "ALTER TABLE p OWNER TO {owner}",
        "ALTER TABLE {parts}.a OWNER TO {other}",
    )
    queries = given.made(spec={**given.spec, "table": "p"})["queries"]
    assert any(query.startswith(f'GRANT "{given.other}" TO') for query in queries)
    for privilege in ("USAGE", "CREATE"):
        grant = f'GRANT {privilege} ON SCHEMA "Parts ""of"" 100% {{x}}" TO'
        assert any(query.startswith(grant) for query in queries)
    assert given.allowed("UPDATE {parts}.a SET snapshot_asn = 1")


REFUSED: dict[str, tuple[list[str], str]] = {
    attribute: (["CREATE ROLE {role} " + attribute], attribute)
    for attribute in ("SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS")
} | {
    "member of a superuser": (["CREATE ROLE {role}", "GRANT postgres TO {role}"], "'postgres'"),
    "owner is a superuser": (["ALTER TABLE session_summaries OWNER TO postgres"], "OWNER TO"),
    "owner is a member of a superuser": (["GRANT postgres TO {owner}"], "OWNER TO"),
    "ledger of a superuser": (["CREATE SCHEMA pgrunbook"], "The ledger"),
    "no table": (["ALTER TABLE session_summaries RENAME TO gone"], "public.session_summaries"),
    "no source": (["ALTER TABLE ip_inventory RENAME TO gone"], "public.ip_inventory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(given: Given, case: str) -> None:
    statements, says = REFUSED[case]
    given.superuser(*statements)
    try:
        before = given.roles()
        for check in (True, False):
            assert says in given.refused(check=check)
        assert given.roles() == before
    finally:
        given.superuser("REVOKE postgres FROM {owner}")


@pytest.mark.parametrize("name", ["", "public", "pg_monitor", "pg_new", "none", "é" * 32])
def test_refuses_a_name_that_no_login_role_can_have(given: Given, name: str) -> None:
    assert "another name" in given.refused(check=True, name=name)


@pytest.fixture
def small_admin(given: Given) -> Iterator[dict[str, Any]]:
    """The login of one who may make roles and change {role}, and has no other right."""
    given.made()
    given.superuser(
        "CREATE ROLE clerk LOGIN CREATEROLE",
        "GRANT {role} TO clerk WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
        "GRANT USAGE ON SCHEMA public TO clerk",
    )
    yield {**given.admin, "user": "clerk"}
    given.superuser("DROP OWNED BY clerk", "DROP ROLE clerk")


def test_a_grant_without_effect_is_a_failure(given: Given, small_admin: dict[str, Any]) -> None:
    """Who may read the source but not pass that on gets a warning from the server, no error."""
    given.superuser(
        "REVOKE SELECT ON ip_inventory FROM {role}", "GRANT SELECT ON ip_inventory TO clerk"
    )
    before = given.roles()
    assert "without granting anything" in given.refused(login=small_admin)
    assert given.roles() == before


def test_an_administrator_with_too_few_rights(given: Given, small_admin: dict[str, Any]) -> None:
    given.superuser("REVOKE SELECT ON ip_inventory FROM {role}")
    assert "SQLSTATE 42501" in given.refused(login=small_admin)


def test_a_password_that_cannot_be_compared_is_set(
    given: Given, small_admin: dict[str, Any]
) -> None:
    """Not by one who may not read pg_authid, and not where it is not ASCII."""
    password = secrets.token_hex(12)
    changes = [given.made(login=small_admin, password=password) for _ in range(2)]
    assert [len(change["queries"]) for change in changes] == [1, 1]
    assert given.made(password=password)["changed"] is False
    assert given.made(password=f"{password}ß")["changed"] is True
    assert given.made(password=f"{password}ß")["changed"] is True


def test_a_password_is_set_once(given: Given) -> None:
    first, second = secrets.token_hex(12), secrets.token_hex(12)
    result = given.made(password=first)
    assert result["queries"][-1] == f"ALTER ROLE \"{given.role}\" PASSWORD '********'"
    assert "SCRAM" not in json.dumps(result) and first not in json.dumps(result)
    changed = [given.made(password=word)["changed"] for word in (first, second, second, first)]
    assert changed == [False, True, False, True]
    before = given.roles()
    assert given.made()["changed"] is given.made(password="")["changed"] is False
    assert given.roles() == before


def test_an_md5_password_is_replaced(given: Given) -> None:
    given.made()
    given.superuser("ALTER ROLE {role} PASSWORD 'md5" + "0" * 32 + "'")
    password = secrets.token_hex(12)
    assert given.made(password=password)["changed"] is True
    assert given.made(password=password)["changed"] is False


@contextmanager
def guarded(given: Given) -> Iterator[None]:
    """The role has to prove who it is meanwhile."""
    show = given.superuser("SELECT current_setting('hba_file') AS path")
    path = Path(show[0]["path"])
    rules = path.read_text(encoding="utf-8")
    name, superuser = given.database.name, given.database.server.user
    first = f"local {name} {superuser} trust\nlocal {name} all scram-sha-256\n"
    path.write_text(first + rules, encoding="utf-8")
    given.superuser("SELECT pg_reload_conf()")
    try:
        deadline = time.monotonic() + 20
        while given.steps().attempt("run_info").get("failed") is None:
            assert time.monotonic() < deadline, "the server has not read its rules again"
        yield
    finally:
        path.write_text(rules, encoding="utf-8")
        given.superuser("SELECT pg_reload_conf()")


@pytest.mark.parametrize("tail", ["", "ß\u00a0ﬁ", " '$%s\\"])
def test_logs_in_with_its_password(given: Given, tail: str) -> None:
    password = secrets.token_hex(12) + tail
    given.made(password=password)
    steps = given.steps()
    with guarded(given):
        steps.login["password"] = password
        steps.do("run_info")
        steps.login["password"] = f"{password}x"
        assert "password authentication failed" in steps.refused("run_info")


def test_the_servers_log_never_has_the_password(given: Given) -> None:
    password = secrets.token_hex(12)
    given.superuser("ALTER ROLE postgres IN DATABASE {database} SET log_statement = 'all'")
    given.made(password=password)
    (row,) = given.superuser("SELECT current_setting('data_directory') AS path")
    log = (Path(row["path"]) / "server.log").read_text(encoding="utf-8", errors="replace")
    assert f'ALTER ROLE "{given.role}" PASSWORD \'SCRAM-SHA-256$' in log
    assert password not in log


Playbook = Callable[..., Played]


def test_playbook(given: Given, playbook: Playbook, phase: Phase, tmp_path: Path) -> None:
    password = secrets.token_hex(12)
    login = {**given.database.login, "user": given.role, "password": password}
    admin = tmp_path / "admin.yml"
    admin.write_text(json.dumps({"login_role_admin": given.admin}), encoding="utf-8")
    arguments = ("login_role", "-e", f"@{admin}", "--diff", "-vvv")
    before = given.roles()
    dry = playbook(login, *arguments, "--check", phase=phase)
    assert dry.status == 0, dry.output
    assert "Dry run: nothing was written." in dry.output and given.roles() == before
    real = playbook(login, *arguments, phase=phase)
    assert real.status == 0 and real.recap("changed") == 1, real.output
    for output in (dry.output, real.output):
        assert password not in output and "SCRAM-SHA-256" not in output
        assert "GRANT SELECT ON" in output and "PASSWORD '********'" in output
        assert "+may log in" in output
    again = playbook(login, *arguments, phase=phase)
    assert again.status == 0 and again.recap("changed") == 0, again.output
    assert "has everything that the phase needs" in again.output


def test_playbook_without_an_administrator(
    database: Database, playbook: Playbook, phase: Phase
) -> None:
    played = playbook(database.login, "login_role", phase=phase)
    assert played.status != 0 and "set login_role_admin" in played.output
    assert played.recap("changed") == 0
