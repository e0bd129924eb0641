# SPDX-License-Identifier: GPL-3.0-or-later
"""A server without room in the middle of a run: a disk that is full, for data and for WAL, and no
connection that is left."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo import data
from demo import server as demo_server
from tests.integration.conftest import Database
from tests.integration.meanwhile import before_batch
from tests.integration.servers import started
from tests.integration.small_table import Table, all_right
from tests.integration.steps import Module

MIB = 1024 * 1024
BIG = Table(rows=8000, spec={"batch_rows": 200, "canary_rows": 200, "workers": 2})

may_mount = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="only root may mount a small file system",
)


@contextmanager
def small_disk(path: Path, mebibytes: int, like: Path) -> Iterator[Path]:
    """A file system of that size at path, which belongs to the owner of like."""
    path.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(path)], check=True
    )
    try:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o700)
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill_up(disk: Path, but: int) -> Path:
    """A file that leaves so many bytes of the disk."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free - but
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free)
    return ballast


@pytest.fixture
def own() -> Iterator[tuple[Database, Path]]:
    """A database on a server of its own, whose disk may be full."""
    with started("room", sessions=500) as (server, path):
        yield Database(server, data.DATABASE), path


class Started:
    """A run whose canary is filled and that may fill all other rows."""

    def __init__(self, database: Database, module: Module, table: Table) -> None:
        self.database, self.steps = database, table.make(database, module)
        self.before = self.rows()
        self.steps.begin()
        self.steps.backfill(canary=True)
        self.steps.approve("backfill")

    def rows(self) -> list[dict[str, Any]]:
        return self.database.sql("SELECT * FROM t ORDER BY id")

    def batches(self) -> int:
        rows = self.database.sql("SELECT count(*)::int AS n FROM pgrunbook.batch")
        count: int = rows[0]["n"]
        return count

    def goes_on(self) -> None:
        """The next execution ends the run; the rows are right, and a rollback is exact."""
        self.database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
        run = self.steps.planned["run"]["id"]
        self.steps.begin()
        assert self.steps.planned["run"]["id"] == run
        self.steps.approve("backfill")
        self.steps.backfill()
        self.steps.do("run", state="finished")
        all_right(self.database)
        assert self.steps.back()["rows_left_alone"] == 0
        assert self.rows() == self.before


@may_mount
def test_a_disk_that_is_full_for_data_stops_the_run_which_goes_on_once_there_is_room(
    own: tuple[Database, Path], module: Module
) -> None:
    database, path = own
    with small_disk(path.with_name("small"), 16, path) as disk:
        database.superuser(f"CREATE TABLESPACE small LOCATION '{disk}'")
        run = Started(database, module, BIG)
        database.superuser("ALTER TABLE t SET TABLESPACE small")
        filled, ballast = run.batches(), fill_up(disk, MIB // 4)
        message = run.steps.refused("backfill")
        assert "SQLSTATE 53100" in message and "No space left on device" in message
        assert "free the resource" in message
        assert run.batches() > filled
        ballast.unlink()
        run.goes_on()
        database.superuser("DROP TABLE t")


@may_mount
def test_a_disk_that_is_full_for_wal_stops_the_server_and_the_run_goes_on_after_it(
    own: tuple[Database, Path], module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server panics. Each batch takes a segment of its own, so that it soon needs a new one."""

    def switch() -> None:
        with suppress(psycopg.OperationalError):
            database.superuser("SELECT pg_switch_wal()")

    database, path = own
    demo_server.stop(path)
    with small_disk(path.with_name("wal"), 128, path) as disk, ExitStack() as stack:
        stack.callback(demo_server.stop, path)
        shutil.copytree(path / "pg_wal", disk / "pg_wal")
        for each in (disk / "pg_wal", *(disk / "pg_wal").rglob("*")):
            shutil.chown(each, path.stat().st_uid, path.stat().st_gid)
        shutil.rmtree(path / "pg_wal")
        (path / "pg_wal").symlink_to(disk / "pg_wal")
        demo_server.start(path, 18)
        run = Started(database, module, replace(BIG, spec={**BIG.spec, "workers": 1}))
        filled, ballast = run.batches(), fill_up(disk, 0)
        with monkeypatch.context() as patched:
            before_batch(patched, lambda number: number > 5, switch)
            assert "Next step" in run.steps.refused("backfill")
        assert "PANIC" in (path / "server.log").read_text()
        ballast.unlink()
        # It has stopped, or recovers by itself now that there is room.
        pg_ctl = str(database.server.bin_dir / "pg_ctl")
        demo_server.run_program([pg_ctl, "stop", "-m", "immediate", "-D", "."], path)
        demo_server.start(path, 18)
        assert run.batches() > filled
        run.goes_on()


def test_no_connection_for_the_workers_in_the_middle_stops_the_run_which_goes_on_with_one(
    database: Database, module: Module
) -> None:
    run = Started(database, module, BIG)
    database.superuser(f"ALTER ROLE {data.ROLE} CONNECTION LIMIT 2")
    try:
        filled = run.batches()
        message = run.steps.refused("backfill")
        assert "Cannot open another connection" in message
        assert "too many connections for role" in message and "lower phase_workers" in message
        assert run.batches() == filled
    finally:
        database.superuser(f"ALTER ROLE {data.ROLE} CONNECTION LIMIT -1")
    run.goes_on()


def test_a_server_without_a_slot_says_so_at_the_start_and_in_the_middle(module: Module) -> None:
    """Its last slots are for superusers."""
    with started("slots", settings={"max_connections": "8"}, sessions=500) as (server, _):
        database = Database(server, data.DATABASE)
        run = Started(database, module, BIG)
        with ExitStack() as others:
            with pytest.raises(psycopg.OperationalError, match="reserved"):
                while True:
                    others.enter_context(closing(database.connect()))
            message = run.steps.refused("backfill")
            assert "Cannot connect to" in message and "reserved" in message
            assert "Next step" in message
        with ExitStack() as others:
            others.enter_context(closing(database.connect()))
        run.goes_on()
