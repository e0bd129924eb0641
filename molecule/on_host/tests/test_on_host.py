# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules ran on the database's own host, and the result is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import testinfra

Rows = list[dict[str, Any]]
Sql = Callable[[str], Rows]


@pytest.fixture(scope="module")
def connections(server_log: str) -> list[str]:
    """What the server logged of connections since the role of the runbook was made."""
    return [line for line in server_log.splitlines() if "pgrunbook" in line]


def test_every_connection_came_through_the_socket(connections: list[str]) -> None:
    """Peer authentication is there for the socket only."""
    authenticated = [x for x in connections if "connection authenticated" in x]
    assert len(authenticated) > 10
    assert all('identity="pgrunbook" method=peer' in line for line in authenticated)


def test_it_was_the_distributions_psycopg(host: Any) -> None:
    assert host.package("python3-psycopg").is_installed
    assert not host.run("/usr/bin/python3 -m pip --version").succeeded
    found = host.check_output("/usr/bin/python3 -c 'import psycopg; print(psycopg.__file__)'")
    assert found == "/usr/lib/python3/dist-packages/psycopg/__init__.py"


def test_nothing_is_left_of_the_modules(host: Any) -> None:
    pgrunbook = testinfra.get_host(f"{host.backend.NAME}://pgrunbook@{host.backend.name}")
    assert pgrunbook.check_output("ls -A /home/pgrunbook/.ansible/tmp") == ""


def test_every_row_equals_its_source(sql: Sql) -> None:
    different = sql(
        "SELECT session_id FROM session_summaries s JOIN ip_inventory i ON ip_address = source_ip"
        " WHERE (snapshot_asn, snapshot_country, snapshot_ip_type)"
        " IS DISTINCT FROM (current_asn, geo_country, ip_type) LIMIT 5"
    )
    assert different == []
    assert sql("SELECT state, verdict FROM pgrunbook.run") == [
        {"state": "finished", "verdict": "GO"}
    ]


def test_the_report_was_written_on_the_controller(folder: Any) -> None:
    assert (folder / "reports" / "latest" / "report.json").is_file()
