# SPDX-License-Identifier: GPL-3.0-or-later
"""Several databases as hosts of one inventory, and the playbooks on all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg.sql import SQL, Identifier

from demo import server as demo_server
from tests.integration.conftest import Database, Played, copied, played, program
from tests.integration.servers import superuser
from tests.integration.terminal import QUESTION, Terminal

ROLLOUT = "SELECT rollout ->> 'id' AS id FROM pgrunbook.approval LIMIT 1"
SECOND = rf"one is GO(?s:.*){QUESTION}"


@dataclass
class Fleet:
    """Databases by the names of their hosts, and the folder with inventory and reports."""

    databases: dict[str, Database]
    folder: Path
    phase: dict[str, Any]
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def command(self, name: str, *arguments: str) -> list[str]:
        """The ansible-playbook command on all hosts. A variable of the phase that a host sets is
        left to the hosts."""
        local = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        }
        hosts = {
            host: {"runbook_login": database.login, **self.variables.get(host, {})}
            for host, database in self.databases.items()
        }
        inventory = self.folder / "inventory.yml"
        inventory.write_text(
            yaml.safe_dump({"databases": {"hosts": hosts, "vars": local}}, sort_keys=False),
            encoding="utf-8",
        )
        extra = self.folder / "extra.yml"
        of_hosts = {name for given in self.variables.values() for name in given}
        phase = {name: value for name, value in self.phase.items() if name not in of_hosts}
        given = {**phase, "runbook_reports": f"{self.folder}/reports"}
        extra.write_text(yaml.safe_dump(given), encoding="utf-8")
        book = f"playbooks/{name}.yml"
        return [program(), "-i", str(inventory), book, "-e", f"@{extra}", *arguments]

    def play(self, name: str, *arguments: str) -> Played:
        """Run a playbook on all hosts."""
        return played(self.command(name, *arguments))

    def approval(self, *arguments: str, book: str = "phase3") -> str:
        """The approval of the rollout that a dry run shows."""
        dry = self.play(book, "--check", *arguments)
        return re.findall(r"approval=[0-9a-f]{64}", dry.output)[-1]

    def approved(self, *arguments: str) -> Played:
        """Run phase3 with the approval of what its dry run shows."""
        return self.play("phase3", *arguments, "-e", self.approval(*arguments))

    def rollout(self, host: str) -> str:
        """The option that names the rollout that a host's ledger has."""
        return f"rollout={self.databases[host].sql(ROLLOUT)[0]['id']}"

    def prints(self) -> dict[str, dict[str, Any]]:
        """What each database holds."""
        return {host: database.fingerprint() for host, database in self.databases.items()}

    def verdicts(self) -> dict[str, list[str]]:
        """The verdicts of the runs in each ledger."""
        return {
            host: [row["verdict"] for row in database.sql("SELECT verdict FROM pgrunbook.run")]
            if database.fingerprint()["ledger"]
            else []
            for host, database in self.databases.items()
        }


def approve_first(person: Terminal) -> int:
    """Answer the first question; where the second one begins."""
    at = person.approve()
    person.wait_for(SECOND, at)
    return at


@contextmanager
def unreachable(gone: Database) -> Iterator[None]:
    """A database that closes every connection, and takes none meanwhile."""
    with psycopg.connect(superuser(gone.server), autocommit=True) as conn:
        allow = SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        conn.execute(allow.format(Identifier(gone.name), SQL("false")))
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [gone.name],
        )
        try:
            yield
        finally:
            conn.execute(allow.format(Identifier(gone.name), SQL("true")))


@contextmanager
def fleet_of(
    server: demo_server.Server, phase: dict[str, Any], folder: Path, hosts: Sequence[str]
) -> Iterator[Fleet]:
    """A copy of the demo's database for each host."""
    with ExitStack() as stack:
        databases = {host: stack.enter_context(copied(server)) for host in hosts}
        yield Fleet(databases, folder, {**phase, "phase_queries": []})
