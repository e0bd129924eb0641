# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and its streaming standby, which takes over in one way or another, again and again."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from demo import data
from demo import server as demo_server
from tests.integration.conftest import Database, rows_of
from tests.integration.servers import log_kept, started

PATIENCE_S = 60.0
ENDS = ("fast", "immediate", "kill", "freeze", "demote")


@dataclass
class Host:
    """A server of its own, by its data directory."""

    folder: Path
    bin_dir: Path

    @property
    def sockets(self) -> str:
        return str(demo_server.socket_dir(self.folder))

    def run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL in the data directory; it must succeed."""
        done = demo_server.run_program([str(self.bin_dir / program), *arguments], self.folder)
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        option = f"-p {demo_server.PORT} -c unix_socket_directories='{self.sockets}'"
        self.run("pg_ctl", "start", "-w", "-D", ".", "-l", "server.log", "-o", option)

    def sql(self, query: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the superuser; the rows that it gives, each as a tuple."""
        with closing(self.session(database)) as conn:
            return rows_of(conn.execute(query))

    def session(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A session of the superuser."""
        return psycopg.connect(
            host=self.sockets,
            port=demo_server.PORT,
            user=demo_server.SUPERUSER,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def processes(self) -> list[int]:
        """Those that work in the data directory, the postmaster and its children."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and Path(f"{entry}/cwd").samefile(self.folder):
                    found.append(int(entry.name))
        return found

    def signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def follow(self, primary: Host) -> None:
        """Be a standby of that one at the next start."""
        source = f"host={primary.sockets} port={demo_server.PORT} user={demo_server.SUPERUSER}"
        with (self.folder / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(f"primary_conninfo = '{source}'\n")
        (self.folder / "standby.signal").touch()

    def end(self, how: str) -> None:
        """Stop to be a primary, in one of the ways of ENDS."""
        if how in ("fast", "immediate"):
            self.run("pg_ctl", "stop", "-w", "-D", ".", "-m", how)
        if how == "demote":
            self.run("pg_ctl", "stop", "-w", "-D", ".", "-m", "fast")
            (self.folder / "standby.signal").touch()
            self.start()
        if how == "kill":
            self.signal(signal.SIGKILL)
        if how == "freeze":
            self.signal(signal.SIGSTOP)

    def gone(self) -> None:
        """Nothing of it is left."""
        self.signal(signal.SIGKILL)
        while self.processes():
            time.sleep(0.02)


@dataclass
class Pair:
    """The primary, its standby, and the folder where further ones are made."""

    primary: Host
    standby: Host
    place: Path
    made: list[Host] = field(default_factory=list)

    @property
    def login(self) -> dict[str, Any]:
        """Both hosts, the present primary first, as a user has them in the inventory."""
        return {
            "host": f"{self.primary.sockets},{self.standby.sockets}",
            "port": demo_server.PORT,
            "user": data.ROLE,
            "connect_timeout": 2,
        }

    def database(self, host: Host, name: str) -> Database:
        server = demo_server.Server(
            host.sockets, demo_server.PORT, demo_server.SUPERUSER, host.bin_dir
        )
        return Database(server, name)

    def cut_stream(self) -> None:
        """What the primary commits from now on does not reach the standby."""
        self.standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.sql("SELECT pg_reload_conf()")
        deadline = time.monotonic() + PATIENCE_S
        while self.standby.sql("SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'"):
            assert time.monotonic() < deadline, "the standby still receives"
            time.sleep(0.02)

    def caught_up(self) -> None:
        """Wait until the standby has what the primary has."""
        ((at,),) = self.primary.sql("SELECT pg_current_wal_lsn()::text")
        deadline = time.monotonic() + PATIENCE_S
        while self.standby.sql(f"SELECT pg_last_wal_replay_lsn() >= '{at}'") != [(True,)]:
            assert time.monotonic() < deadline, "the standby does not catch up"
            time.sleep(0.02)

    def promote(self) -> None:
        self.standby.run("pg_ctl", "promote", "-w", "-D", ".")

    def fail_over(self, how: str) -> None:
        """The primary ends in that way, and the standby takes over."""
        self.primary.end(how)
        self.promote()

    def renew(self) -> None:
        """The standby that took over is the primary now, and gets a standby of its own."""
        self.primary.gone()
        shutil.rmtree(self.primary.folder)
        self.primary, self.standby = self.standby, standby_of(self.standby, _folder(self.place))
        self.made.append(self.standby)


def _folder(place: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix="standby-", dir=place))


def standby_of(primary: Host, folder: Path) -> Host:
    """Make a standby in a folder that is to be its own, and start it."""
    made = Host(folder / "data", primary.bin_dir)
    made.folder.mkdir(mode=0o700)
    owner = primary.folder.stat()
    for path in (made.folder.parent, made.folder):
        os.chown(path, owner.st_uid, owner.st_gid)
    at = ["-h", primary.sockets, "-p", str(demo_server.PORT), "-U", demo_server.SUPERUSER]
    made.run("pg_basebackup", *at, "-c", "fast", "-R", "-D", ".")
    for left in ("server.log", f".s.PGSQL.{demo_server.PORT}.lock"):
        (made.folder / left).unlink(missing_ok=True)
    made.start()
    return made


@contextmanager
def pair(sessions: int) -> Iterator[Pair]:
    """A primary with the demo's database, and its standby."""
    settings = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1s"}
    with started("pair", settings=settings, sessions=sessions) as (server, folder):
        first = Host(folder, server.bin_dir)
        place = folder.parent
        made = Pair(first, standby_of(first, _folder(place)), place)
        made.made.append(made.standby)
        try:
            with log_kept(made.standby.folder / "server.log"):
                yield made
        finally:
            for host in (first, *made.made):
                if host.folder.exists():
                    host.gone()
            first.folder.mkdir(exist_ok=True)
