# SPDX-License-Identifier: GPL-3.0-or-later
"""A streaming standby of a test's server."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.integration.conftest import Database, rows_of
from tests.integration.pair import Host, standby_of
from tests.integration.servers import log_kept

PATIENCE_S = 60


@dataclass(frozen=True)
class Standby:
    """A standby of the server that primary is on; login is that of the application role on it."""

    primary: Database
    host: Host

    @property
    def folder(self) -> Path:
        return self.host.folder

    @property
    def login(self) -> dict[str, Any]:
        return {**self.primary.login, "host": self.host.sockets}

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL in the standby's data directory; it must succeed."""
        self.host.run(program, *arguments)

    def promote(self) -> None:
        """Once it has all that the primary has, make it another primary."""
        (lsn,) = self.primary.superuser("SELECT pg_current_wal_lsn()::text AS at")
        caught_up = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        with psycopg.connect(**self.login, autocommit=True) as conn:
            deadline = time.monotonic() + PATIENCE_S
            while conn.execute(caught_up, (lsn["at"],)).fetchone() != (True,):
                assert time.monotonic() < deadline, "the standby does not catch up"
                time.sleep(0.1)
        self.run("pg_ctl", "promote", "-w", "-D", ".")

    def sql(self, query: str) -> list[Any]:
        """Run a statement as the application role; the rows that it gives, each as a tuple."""
        with psycopg.connect(**self.login, autocommit=True) as conn:
            return rows_of(conn.execute(query))


@contextmanager
def streaming(database: Database) -> Iterator[Standby]:
    """Make a standby of the database's server, and start it."""
    primary = Host(Path(database.server.host), database.server.bin_dir)
    with tempfile.TemporaryDirectory(prefix="pgrunbook-standby-") as folder:
        made = Standby(database, standby_of(primary, Path(folder)))
        with log_kept(made.folder / "server.log"):
            try:
                yield made
            finally:
                made.run("pg_ctl", "stop", "-w", "-D", ".", "-m", "immediate")
