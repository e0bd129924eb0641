# SPDX-License-Identifier: GPL-3.0-or-later
"""A streaming standby of a test's server."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from demo import server as demo_server
from tests.integration.conftest import Database
from tests.integration.servers import log_kept

PATIENCE_S = 60


@dataclass(frozen=True)
class Standby:
    """A standby of the server that primary is on; login is that of the application role on it."""

    primary: Database
    folder: Path

    @property
    def login(self) -> dict[str, Any]:
        return {**self.primary.login, "host": str(demo_server.socket_dir(self.folder))}

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL in the standby's data directory; it must succeed."""
        command = [str(self.primary.server.bin_dir / program), *arguments]
        done = demo_server.run_program(command, self.folder)
        assert done.returncode == 0, done.stdout

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
            cursor = conn.execute(query)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def streaming(database: Database) -> Iterator[Standby]:
    """Make a standby of the database's server, and start it."""
    primary = database.server
    with tempfile.TemporaryDirectory(prefix="pgrunbook-standby-") as folder:
        made = Standby(database, Path(folder) / "data")
        made.folder.mkdir(mode=0o700)
        owner = Path(primary.host).stat()
        for path in (made.folder.parent, made.folder):
            os.chown(path, owner.st_uid, owner.st_gid)
        at_primary = ["-h", primary.host, "-p", str(primary.port), "-U", primary.user]
        made.run("pg_basebackup", *at_primary, "-c", "fast", "-R", "-D", ".")
        (made.folder / f".s.PGSQL.{primary.port}.lock").unlink(missing_ok=True)
        (made.folder / "server.log").unlink()
        settings = f"-p {primary.port} -c unix_socket_directories='{made.login['host']}'"
        with log_kept(made.folder / "server.log"):
            made.run("pg_ctl", "start", "-w", "-D", ".", "-l", "server.log", "-o", settings)
            try:
                yield made
            finally:
                made.run("pg_ctl", "stop", "-w", "-D", ".", "-m", "immediate")
