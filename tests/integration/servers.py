# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of tests: quick to start, in a folder of their own, with logs that outlive them.

Each server's log is kept in .test-logs, and a test that fails shows what its servers logged
meanwhile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from psycopg.conninfo import make_conninfo

from demo import data
from demo import server as demo_server

KEPT_LOGS = Path(__file__).resolve().parents[2] / ".test-logs"
SHOWN_BYTES = 8000

# No test cuts the machine's power, and what a killed process or a server that stops at once leaves
# in the page cache is not lost. Many servers run at a time, so each has little shared memory.
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "log_checkpoints": "off",
}

# Each test makes and drops a database, some three hundred files. Where there is room in memory they
# are there: a file system on a disk may take longer for that than the tests do.
IN_MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 8 * 1024**3

_logs: dict[str, Path] = {}
_seen: dict[str, int] = {}


@contextmanager
def started(
    label: str, version: int = 18, settings: Mapping[str, str] | None = None, sessions: int = 0
) -> Iterator[tuple[demo_server.Server, Path]]:
    """A server of its own and its data directory; with sessions it holds the demo's database.

    The folder is not below pytest's own (tmp_path): each pytest that starts, as another worker's,
    makes that private, and a server that runs as another user panics for want of access.
    """
    with tempfile.TemporaryDirectory(prefix=f"pgrunbook-{label}-", dir=_place()) as folder:
        data_dir = Path(folder) / "data"
        try:
            with log_kept(data_dir / "server.log"):
                server = demo_server.start(data_dir, version, {**QUICK, **(settings or {})})
                if sessions:
                    data.create(superuser(server), sessions=sessions)
                yield server, data_dir
        finally:
            demo_server.destroy(data_dir)


def _place() -> Path | None:
    """Where data directories go: memory, or the usual folder for temporary files."""
    roomy = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ENOUGH_BYTES
    return IN_MEMORY if roomy and os.access(IN_MEMORY, os.W_OK) else None


def superuser(server: demo_server.Server, database: str = "postgres") -> str:
    """The connection string of the server's superuser."""
    return make_conninfo(host=server.host, port=server.port, user=server.user, dbname=database)


@contextmanager
def log_kept(path: Path) -> Iterator[None]:
    """What the file at path holds is shown with tests that fail, and copied to .test-logs."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    name = f"{worker}-{path.parents[1].name.removeprefix('pgrunbook-')}.log"
    _logs[name] = path
    try:
        yield
    finally:
        KEPT_LOGS.mkdir(exist_ok=True)
        _logs[name] = KEPT_LOGS / name
        if path.exists():
            shutil.copyfile(path, KEPT_LOGS / name)


def forget_logs() -> None:
    """Delete the logs that an earlier session kept."""
    shutil.rmtree(KEPT_LOGS, ignore_errors=True)


def mark_logs() -> None:
    """From here on is what logged() returns."""
    _seen.update({name: _size(path) for name, path in _logs.items()})


def logged() -> dict[str, str]:
    """What each server has logged since mark_logs(), the end of it."""
    texts = {name: _since(path, _seen.get(name, 0)) for name, path in _logs.items()}
    return {name: text for name, text in texts.items() if text}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _since(path: Path, position: int) -> str:
    size = _size(path)
    if size <= position:
        return ""
    with path.open("rb") as file:
        file.seek(max(position, size - SHOWN_BYTES))
        return file.read().decode(errors="replace")
