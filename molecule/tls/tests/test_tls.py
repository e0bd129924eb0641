# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook verifies whom it talks to, is let in as a role that may little, and keeps secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Sql = Callable[[str], Rows]
Noted = Callable[[str], Any]
Logged = Callable[[str], str]


def test_only_the_right_authority_and_password_got_through(noted: Noted) -> None:
    statuses = noted("statuses")
    assert statuses == {"wrong_authority": 2, "wrong_password": 2, "right": 0}


def test_a_wrong_authority_is_refused_and_named(logged: Logged) -> None:
    assert "certificate verify failed" in logged("wrong_authority")
    assert "sslrootcert holds the authority that signed its certificate" in logged(
        "wrong_authority"
    )


def test_a_wrong_password_is_refused_and_named(logged: Logged) -> None:
    assert 'password authentication failed for user "pgrunbook"' in logged("wrong_password")
    assert "Next step: check user and password" in logged("wrong_password")


def test_every_connection_of_the_runbook_was_by_tls_and_scram(server_log: str) -> None:
    lines = server_log.splitlines()
    ours = [x for x in lines if "connection authorized: user=pgrunbook" in x]
    assert len(ours) > 10
    assert all("SSL enabled (protocol=TLSv1." in line for line in ours)
    authenticated = [x for x in lines if 'authenticated: identity="pgrunbook"' in x]
    assert authenticated and all("method=scram-sha-256" in line for line in authenticated)


def test_the_server_lets_nobody_in_without_tls(host: Any) -> None:
    refused = host.run(
        "psql 'host=127.0.0.1 dbname=cowrieprocessor user=pgrunbook sslmode=disable'"
    )
    assert refused.rc != 0
    assert "no pg_hba.conf entry" in refused.stderr and "no encryption" in refused.stderr


def test_the_role_may_do_nothing_that_it_need_not(sql: Sql) -> None:
    role = sql(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin"
        " FROM pg_roles WHERE rolname = 'pgrunbook'"
    )[0]
    assert role.pop("rolcanlogin") is True
    assert not any(role.values())
    memberships = sql(
        "SELECT roleid::regrole::text AS role FROM pg_auth_members"
        " WHERE member = 'pgrunbook'::regrole ORDER BY 1"
    )
    assert [m["role"] for m in memberships] == ["cowrieprocessor", "pg_read_all_stats"]


def test_the_run_filled_the_table(sql: Sql) -> None:
    runs = sql("SELECT verdict FROM pgrunbook.run")
    assert runs == [{"verdict": "GO"}]


def secrets(folder: Path) -> list[str]:
    return [(folder / f"password.{name}").read_text().strip() for name in ("pgrunbook", "wrong")]


def test_no_password_is_in_any_output_or_report(folder: Path) -> None:
    written = [path for path in folder.rglob("*") if path.is_file()]
    printed = [path for path in written if path.suffix in (".log", ".md", ".json", ".prom")]
    assert {"right.log", "wrong_password.log", "report.md", "report.json"} <= {
        path.name for path in printed
    }
    for path in printed:
        text = path.read_text()
        assert not [secret for secret in secrets(folder) if secret in text], path
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in (folder / "right.log").read_text()


def test_no_password_is_in_the_servers_log(server_log: str, folder: Path) -> None:
    assert "statement: ALTER ROLE" in server_log
    assert "RENAME COLUMN" in server_log
    assert not [secret for secret in secrets(folder) if secret in server_log]


def test_no_password_is_in_the_ledger(host: Any, folder: Path) -> None:
    ledger = host.check_output("pg_dump --schema=pgrunbook cowrieprocessor")
    assert "COPY pgrunbook.event" in ledger
    assert not [secret for secret in secrets(folder) if secret in ledger]
