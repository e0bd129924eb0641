# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PgBouncer before a test's server, and an application at work on its pool."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from demo import data
from tests.integration.conftest import Database

PORT = 6432
SETTINGS = (
    "default_transaction_read_only",
    "search_path",
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "row_security",
    "jit",
    "TimeZone",
    "extra_float_digits",
)
_HELD = f"""
SELECT ARRAY[{", ".join(f"current_setting('{s}')" for s in SETTINGS)}]
       || ARRAY[(SELECT count(*) FROM pg_prepared_statements)::text,
                (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
                 AND locktype = 'advisory')::text]
"""


@contextmanager
def pgbouncer(database: Database, mode: str, **settings: Any) -> Iterator[dict[str, Any]]:
    """Start PgBouncer with a pool_mode, on a Unix-domain socket only; the login that leads through
    it. As root it runs as nobody, as the server does."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "PgBouncer is missing: apt-get install pgbouncer (or your system's package)"
    with tempfile.TemporaryDirectory(prefix="pgrunbook-pool-") as name:
        folder = Path(name)
        (folder / "users").write_text(f'"{data.ROLE}" ""\n"{database.server.user}" ""\n')
        lines = {
            "listen_addr": "",
            "listen_port": PORT,
            "unix_socket_dir": folder,
            "auth_type": "trust",
            "auth_file": folder / "users",
            "pool_mode": mode,
            "default_pool_size": 12,
            **settings,
        }
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={database.server.host} port={database.server.port}\n"
            "[pgbouncer]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
        )
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (folder, *folder.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [program, folder / "pgbouncer.ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **who,
            )
        try:
            _wait(process, folder)
            yield {**database.login, "host": str(folder), "port": PORT}
        finally:
            process.terminate()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 10
    while not (folder / f".s.PGSQL.{PORT}").exists():
        assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.02)


@dataclass
class Application:
    """What an application saw on its pooled sessions: how often it wrote, and what was amiss."""

    writes: int = 0
    findings: list[str] = field(default_factory=list)


@contextmanager
def application(login: dict[str, Any], threads: int = 4) -> Iterator[Application]:
    """Threads that write through the pool and look at the settings of whatever session they get."""
    seen, over = Application(), threading.Event()
    plain = _settings(login)

    def work() -> None:
        while not over.is_set():
            try:
                with psycopg.connect(**login, autocommit=True, prepare_threshold=None) as conn:
                    for _ in range(20):
                        conn.execute("UPDATE ip_inventory SET ip_type = ip_type WHERE false")
                        held = _held(conn)
                        seen.writes += 1
                        if held != plain:
                            seen.findings.append(f"settings {held}, not {plain}")
            except psycopg.Error as error:
                seen.findings.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield seen
    finally:
        over.set()
        for worker in workers:
            worker.join(30)


def _settings(login: dict[str, Any]) -> list[str]:
    with psycopg.connect(**login, autocommit=True, prepare_threshold=None) as conn:
        return _held(conn)


def _held(conn: psycopg.Connection[Any]) -> list[str]:
    row = conn.execute(_HELD).fetchone()
    assert row is not None
    held: list[str] = row[0]
    return held
