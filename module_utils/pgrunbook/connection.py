# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that opens connections, bounds their waits and proves that a dry run was one."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from .errors import RunbookError
from .shown import line

LOGIN_OPTIONS: dict[str, Any] = {
    "host": {"type": "str"},
    "port": {"type": "int"},
    "dbname": {"type": "str"},
    "user": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "passfile": {"type": "path", "no_log": False},
    "service": {"type": "str"},
    "sslmode": {"type": "str"},
    "sslrootcert": {"type": "path"},
    "sslcert": {"type": "path"},
    "sslkey": {"type": "path", "no_log": False},
    "connect_timeout": {"type": "int", "default": 10},
}

MINIMUM_VERSION = 140000  # TID range scans came with PostgreSQL 14
STATEMENT_TIMEOUT = "15min"
IDLE_IN_TRANSACTION_TIMEOUT = "60s"
PATIENT_LOCK_TIMEOUT = "30min"
_TRANSIENT = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,  # a row has moved to another partition meanwhile
)
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between tries for a lock

Connection = psycopg.Connection[dict[str, Any]]
Result = TypeVar("Result")


@contextlib.contextmanager
def connect(
    login: Mapping[str, Any],
    *,
    name: str,
    read_only: bool,
    schemas: Sequence[str] = (),
    lock_timeout_ms: int = 500,
) -> Iterator[Connection]:
    """Open a connection whose waits are bounded, and close it.

    login holds libpq's parameters under libpq's names. name becomes application_name, after
    "pgrunbook/". A read_only connection is one READ ONLY transaction for all that it does;
    otherwise it is in autocommit mode. Raises RunbookError when the server cannot be used.
    """
    parameters = {key: value for key, value in login.items() if value not in (None, "")}
    try:
        conn = psycopg.connect(
            **parameters,
            application_name=f"pgrunbook/{name}",
            autocommit=True,
            row_factory=dict_row,
        )
    except psycopg.Error as error:
        raise RunbookError(_connection_failure(login, error)) from None
    with contextlib.closing(conn):
        _bound(conn, schemas, lock_timeout_ms, read_only)
        require_version(conn.info.server_version)
        if read_only:
            conn.read_only = True
            conn.autocommit = False
        yield conn


@contextlib.contextmanager
def sibling(conn: Connection, *, statement_timeout_ms: int) -> Iterator[Connection]:
    """Open another connection to the same database with the same settings, and close it.

    JIT is off: it would be compiled for every short statement again.
    """
    parameters: dict[str, Any] = conn.info.get_parameters()
    if conn.info.password:
        parameters["password"] = conn.info.password
    with contextlib.closing(
        psycopg.connect(**parameters, autocommit=True, row_factory=dict_row)
    ) as other:
        settings = {
            **{name: one(conn, "SELECT current_setting(%s) AS v", (name,))["v"] for name in _KEPT},
            "statement_timeout": f"{statement_timeout_ms}ms",
            "jit": "off",
        }
        _set(other, settings)
        yield other


def require_version(version: int) -> None:
    """Raise RunbookError when the server's version number (170006 for 17.6) is too old."""
    if version < MINIMUM_VERSION:
        raise RunbookError(
            f"The server is PostgreSQL {version // 10000}; pgrunbook needs 14 or newer, for TID "
            "range scans. Next step: upgrade the server, or choose another."
        )


def proof(conn: Connection) -> dict[str, Any]:
    """What the server says of this transaction's writes.

    read_only is transaction_read_only; xid is pg_current_xact_id_if_assigned(), which stays None
    for as long as a transaction has written nothing.
    """
    row = one(
        conn,
        "SELECT current_setting('transaction_read_only') = 'on' AS read_only,"
        " pg_current_xact_id_if_assigned()::text AS xid",
    )
    return {"read_only": row["read_only"], "xid": row["xid"]}


def one(conn: Connection, query: Any, parameters: Any = None) -> dict[str, Any]:
    """The single row that a query gives, by column name."""
    row = conn.execute(query, parameters).fetchone()
    assert row is not None, "the query gives one row"
    return row


def with_lock_retries(
    conn: Connection,
    work: Callable[[], Result],
    *,
    table_oid: int,
    what: str,
    tries: int,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Do work(), again after a wait that doubles (with jitter) when a lock is not to be had.

    sleep waits for that many seconds, or less when nobody wants the work any more.

    Raises RunbookError after the last try, naming the sessions that hold locks on the table.
    """
    wait = FIRST_WAIT
    for attempt in range(1, tries + 1):
        try:
            return work()
        except _TRANSIENT as error:
            if attempt == tries:
                raise RunbookError(
                    f"{what}: no lock after {tries} tries (SQLSTATE {error.sqlstate}). "
                    f"{blockers(conn, table_oid)} Next step: wait for them to end, then run again."
                ) from None
            sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT)
    raise AssertionError("tries is at least 1")


def be_patient(conn: Connection) -> None:
    """From now on let this session wait: for CREATE INDEX CONCURRENTLY, which must outwait older
    snapshots, and for VACUUM. Both leave readers and writers alone while they wait, and an
    autovacuum gives way only to a wait longer than deadlock_timeout."""
    conn.execute("SELECT set_config('lock_timeout', %s, false)", (PATIENT_LOCK_TIMEOUT,))
    conn.execute("SET statement_timeout = 0")


def blockers(conn: Connection, table_oid: int) -> str:
    """One sentence on the sessions that hold a lock on a table, ours left out."""
    rows = conn.execute(
        "SELECT DISTINCT a.pid, a.usename, a.state, left(a.query, 120) AS query"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.relation = %s::oid AND l.granted AND l.pid <> pg_backend_pid()"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (table_oid,),
    ).fetchall()
    if not rows:
        return "No session holds a lock on it any more."
    held = "; ".join(
        f"pid {r['pid']} ({r['usename']}, {r['state']}): {line(r['query'])}" for r in rows
    )
    return f"It is held by {held}."


@contextlib.contextmanager
def table_lock(conn: Connection, table_oid: int, table: str) -> Iterator[None]:
    """Hold the advisory lock that lets one writer of pgrunbook at a time work on a table.

    Raises RunbookError, naming the holder, when another one has it.
    """
    key = (_LOCK_CLASS, table_oid if table_oid < 2**31 else table_oid - 2**32)
    if not one(conn, "SELECT pg_try_advisory_lock(%s, %s) AS got", key)["got"]:
        require_unlocked(conn, table_oid, table)
        raise RunbookError(_at_work("another session", table))
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("SELECT pg_advisory_unlock(%s, %s)", key)


def require_unlocked(conn: Connection, table_oid: int, table: str) -> None:
    """Raise RunbookError, naming the holder, when a writer of pgrunbook is at work on a table."""
    holder = conn.execute(
        "SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid()"
        " AND l.classid::int8 = %s AND l.objid::int8 = %s"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (_LOCK_CLASS, table_oid),
    ).fetchone()
    if holder:
        who = f"{holder['application_name']} (pid {holder['pid']})"
        raise RunbookError(_at_work(who, table))


def _at_work(who: str, table: str) -> str:
    return (
        f"{who} is at work on {table}. Nothing was changed. "
        "Next step: wait for it to end; playbooks/status.yml shows how far it is."
    )


_KEPT = (
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "search_path",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "extra_float_digits",
    "bytea_output",
)
_LOCK_CLASS = 0x70677262  # "pgrb"


def _bound(conn: Connection, schemas: Sequence[str], lock_timeout_ms: int, read_only: bool) -> None:
    path = SQL(", ").join(Identifier(s) for s in schemas or ["pg_catalog"])
    settings = {
        "lock_timeout": f"{lock_timeout_ms}ms",
        "statement_timeout": STATEMENT_TIMEOUT,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
        "default_transaction_read_only": "on" if read_only else "off",
        "search_path": path.as_string(conn),
        "TimeZone": "UTC",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
    }
    _set(conn, settings)


def _set(conn: Connection, settings: Mapping[str, str]) -> None:
    for setting, value in settings.items():
        conn.execute("SELECT set_config(%s, %s, false)", (setting, value))


def _connection_failure(login: Mapping[str, Any], error: psycopg.Error) -> str:
    where = login.get("host") or "the default host"
    port = f":{login['port']}" if login.get("port") else ""
    reason = " ".join(str(error).split()).rstrip(".")
    next_step = next((step for part, step in _CONNECTION_STEPS.items() if part in reason), _ANY)
    return (
        f"Cannot connect to {where}{port}, database {login.get('dbname') or '(default)'}, as "
        f"{login.get('user') or '(default)'}: {reason}. Next step: {next_step}"
    )


_CONNECTION_STEPS = {
    "certificate verify failed": "see that this is the right server, and that sslrootcert holds "
    "the authority that signed its certificate.",
    "does not match host name": "connect to a name or address that the server's certificate holds.",
    "password authentication failed": "check user and password, or what the passfile has for them.",
    "no password supplied": "give a password, or a passfile with one for this server and role.",
    "no pg_hba.conf entry": "have the server's pg_hba.conf let this role in from here, or set "
    "sslmode as it asks.",
}
_ANY = "check how to connect (runbook_login in the inventory), and that the server is up."
