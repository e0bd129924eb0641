# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that opens connections, bounds their waits and proves that a dry run was one."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from .errors import RunbookError
from .pooler import answering, require_own_session
from .shown import statement

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
IDLE_IN_TRANSACTION_TIMEOUT = "1min"
PATIENT_LOCK_TIMEOUT = "30min"
_TRANSIENT = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,  # a row has moved to another partition meanwhile
)
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between tries for a lock

PLAIN = ("host", "dbname")
"""Where people put a whole connection string, which may have a password."""

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
    otherwise it is in autocommit mode. Names are looked up in pg_catalog, then in the schemas.
    Raises RunbookError when the server cannot be used, or others may get the session behind it.
    """
    _require_plain(login)
    parameters = {
        **{key: value for key, value in login.items() if value not in (None, "")},
        "application_name": f"pgrunbook/{name}",
        "client_encoding": "UTF8",
    }
    settings = {
        **_OURS,
        "lock_timeout": f"{lock_timeout_ms}ms",
        "statement_timeout": STATEMENT_TIMEOUT,
        "search_path": search_path(schemas),
    }
    with contextlib.ExitStack() as stack:
        try:
            conn = stack.enter_context(_session(parameters, settings, read_only=read_only))
        except psycopg.Error as error:
            raise RunbookError(_connection_failure(login, error)) from None
        require_version(conn.info.server_version)
        require_encoding(conn.info.parameter_status("server_encoding") or "")
        yield conn


@contextlib.contextmanager
def sibling(conn: Connection, **settings: str) -> Iterator[Connection]:
    """Another connection to the same database with the settings of this one, which writes, apart
    from those given. It is in autocommit mode. Raises RunbookError where there is none left, or it
    leads to another server, as it can with several hosts in runbook_login."""
    from .identity import require_sibling

    assert not conn.read_only, "what only reads has one connection and one transaction"
    query = "SELECT pg_catalog.current_setting(%s, true) AS value"
    kept = {name: one(conn, query, (name,))["value"] for name in _KEPT}
    wanted = {name: value for name, value in {**kept, **settings}.items() if value is not None}
    with _beside(conn, wanted) as other:
        require_sibling(conn, other)
        yield other


@contextlib.contextmanager
def patient(conn: Connection) -> Iterator[Connection]:
    """Another connection, which may wait: for CREATE INDEX CONCURRENTLY, which must outwait older
    snapshots, and for VACUUM. Both leave readers and writers alone while they wait, and an
    autovacuum gives way only to a wait longer than deadlock_timeout.

    The server goes on with such a statement when its client is gone. So this session has a lock of
    its own on whatever table the first one has, and no writer of pgrunbook begins while it lives.
    Raises RunbookError where an earlier statement is under way.
    """
    with sibling(conn, lock_timeout=PATIENT_LOCK_TIMEOUT, statement_timeout="0") as other:
        tables = _locked_tables(conn)
        for oid in tables:
            if not _try_lock(other, _STATEMENT_CLASS, oid):
                table = one(conn, "SELECT %s::oid::regclass::text AS name", (oid,))["name"]
                require_unlocked(conn, oid, table)
                raise RunbookError(_at_work("another session", table))
        # Where this still answers, nobody else got the table's lock before ours was there to see.
        one(conn, "SELECT 1 AS alive")
        try:
            yield other
        finally:
            if other.info.transaction_status == TransactionStatus.IDLE:
                for oid in tables:
                    _unlock(other, _STATEMENT_CLASS, oid)


def require_connections(conn: Connection, others: int) -> None:
    """Raise RunbookError unless so many connections can be open beside this one. Nothing is done
    in them."""
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(_beside(conn, {}))


@contextlib.contextmanager
def looking_in(conn: Connection, schemas: Sequence[str]) -> Iterator[None]:
    """Look names up in pg_catalog, then in these schemas, and afterwards where they were looked up
    before. Nothing may be written meanwhile: it is rolled back."""
    with conn.transaction(force_rollback=True):
        conn.execute(SQL("SET LOCAL search_path = {}").format(SQL(search_path(schemas))))
        yield


def search_path(schemas: Sequence[str] = ()) -> str:
    """Where names are looked up: in pg_catalog first, in temporary tables last, which PostgreSQL
    would search before all others if they were not named."""
    return SQL(", ").join(map(Identifier, ("pg_catalog", *schemas, "pg_temp"))).as_string(None)


def is_connection_string(value: Any) -> bool:
    """Whether a value of PLAIN is a URI or a list of parameters. A path, which may have a "=", is
    a host."""
    text = str(value or "")
    return "://" in text or ("=" in text and not text.startswith(("/", "@")))


def require_version(version: int) -> None:
    """Raise RunbookError when the server's version number (170006 for 17.6) is too old."""
    if version < MINIMUM_VERSION:
        raise RunbookError(
            f"The server is PostgreSQL {version // 10000}; pgrunbook needs 14 or newer, for TID "
            "range scans. Next step: upgrade the server, or choose another."
        )


def require_encoding(encoding: str) -> None:
    """Raise RunbookError where the database does not know which characters its texts hold."""
    if encoding == "SQL_ASCII":
        raise RunbookError(
            "The database's encoding is SQL_ASCII: it holds bytes and does not know which "
            "characters they are, so texts can be neither compared nor shown reliably. Nothing was "
            "changed. Next step: move it to a database with the encoding UTF8 (pg_dump with the "
            "encoding that the bytes are in)."
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


def blockers(conn: Connection, table_oid: int) -> str:
    """One sentence on the sessions that hold a lock on a table or a partition of it, ours left
    out."""
    rows = conn.execute(
        "SELECT DISTINCT a.pid, a.usename, a.state, left(a.query, 10000) AS query"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE (l.relation = %(table)s::oid"
        "   OR l.relation IN (SELECT relid FROM pg_partition_tree(%(table)s::oid)))"
        " AND l.granted AND l.pid <> pg_backend_pid()"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        {"table": table_oid},
    ).fetchall()
    if not rows:
        return "No session holds a lock on it any more."
    held = "; ".join(
        f"pid {r['pid']} ({r['usename']}, {r['state']}): {statement(r['query'])}" for r in rows
    )
    return f"It is held by {held}."


@contextlib.contextmanager
def table_lock(conn: Connection, table_oid: int, table: str) -> Iterator[None]:
    """Hold the advisory lock that lets one writer of pgrunbook at a time work on a table.

    Raises RunbookError, naming the holder, when another one has it, or left a statement under way.
    """
    if not _try_lock(conn, _LOCK_CLASS, table_oid):
        require_unlocked(conn, table_oid, table)
        raise RunbookError(_at_work("another session", table))
    try:
        require_unlocked(conn, table_oid, table)
        yield
    finally:
        if not conn.closed:
            _unlock(conn, _LOCK_CLASS, table_oid)


def require_unlocked(conn: Connection, table_oid: int, table: str) -> None:
    """Raise RunbookError, naming the holder, when a writer of pgrunbook is at work on a table, or
    one that is gone left a statement under way."""
    holder = conn.execute(
        "SELECT a.pid, a.application_name, a.query, l.classid::int8 AS class"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid()"
        " AND l.classid::int8 IN (%s, %s) AND l.objid::int8 = %s"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " ORDER BY class LIMIT 1",
        (_LOCK_CLASS, _STATEMENT_CLASS, table_oid),
    ).fetchone()
    if holder is None:
        return
    who = f"{holder['application_name']} (pid {holder['pid']})"
    if holder["class"] == _LOCK_CLASS:
        raise RunbookError(_at_work(who, table))
    raise RunbookError(
        f"A statement of {who} is under way on {table}, and does not end with the module that sent "
        f"it: {statement(holder['query'])}. Nothing was changed. Next step: wait for it to end, or "
        f"end it with SELECT pg_terminate_backend({holder['pid']}), then run again."
    )


def _at_work(who: str, table: str) -> str:
    return (
        f"{who} is at work on {table}. Nothing was changed. "
        "Next step: wait for it to end; playbooks/status.yml shows how far it is."
    )


def _try_lock(conn: Connection, lock_class: int, oid: int) -> bool:
    query = "SELECT pg_try_advisory_lock(%s, %s) AS got"
    return bool(one(conn, query, (lock_class, _signed(oid)))["got"])


def _unlock(conn: Connection, lock_class: int, oid: int) -> None:
    conn.execute("SELECT pg_advisory_unlock(%s, %s)", (lock_class, _signed(oid)))


def _signed(oid: int) -> int:
    return oid if oid < 2**31 else oid - 2**32


def _locked_tables(conn: Connection) -> list[int]:
    """The oids of the tables whose lock this session has."""
    rows = conn.execute(
        "SELECT objid::int8 AS oid FROM pg_locks"
        " WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
        " AND classid::int8 = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (_LOCK_CLASS,),
    )
    return [row["oid"] for row in rows]


_LOCK_CLASS, _STATEMENT_CLASS = 0x70677262, 0x70677273  # "pgrb", "pgrs"

_OURS = {
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
    "idle_session_timeout": "0",
    "row_security": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""What every session of ours has, whatever role and database set for others. With row_security off
the server refuses to read a table whose policies would hide rows, instead of hiding them."""

_KEPT = (
    *_OURS,
    "lock_timeout",
    "statement_timeout",
    "search_path",
    "transaction_timeout",
)


@contextlib.contextmanager
def _beside(conn: Connection, settings: Mapping[str, str]) -> Iterator[Connection]:
    parameters: dict[str, Any] = conn.info.get_parameters()
    if conn.info.password:
        parameters["password"] = conn.info.password
    with contextlib.ExitStack() as stack:
        try:
            other = stack.enter_context(_session(parameters, settings, beside=conn))
        except psycopg.Error as error:
            raise RunbookError(
                f"Cannot open another connection to {conn.info.host}:{conn.info.port}: "
                f"{_in_one_line(error)}. Next step: let server, role, database and connection pool "
                "allow one connection for each of phase_workers and one more, or lower "
                "phase_workers."
            ) from None
        yield other


@contextlib.contextmanager
def _session(
    parameters: Mapping[str, Any],
    settings: Mapping[str, str],
    *,
    read_only: bool = False,
    beside: Connection | None = None,
) -> Iterator[Connection]:
    """Open a connection whose settings come with its startup packet, and close it.

    beside is a connection to the same place whose session was found to be ours alone. Raises
    psycopg.Error where the connection cannot be opened, RunbookError where other triggers can
    fire than for the application.
    """
    with contextlib.closing(_open(parameters, settings)) as conn:
        with answering(conn):
            late = _late(conn, settings)
            _require_origin(conn)
        if beside is None:
            require_own_session(conn, lambda: _open(parameters, {}), doubtful=bool(late))
        if read_only:
            conn.read_only = True
            conn.autocommit = False
        _set(conn, late, local=read_only)
        try:
            yield conn
        finally:
            if not read_only and conn.info.transaction_status == TransactionStatus.IDLE:
                for setting in late:
                    conn.execute(SQL("RESET {}").format(Identifier(setting)))


def _open(parameters: Mapping[str, Any], settings: Mapping[str, str]) -> Connection:
    """A connection in autocommit mode, with the settings unless a pooler does not pass them on.

    Nothing is prepared under a name, which would stay in a pooled session.
    """
    ours = [f"-c {setting}={_escaped(value)}" for setting, value in settings.items()]

    def opened(options: str) -> Connection:
        return psycopg.connect(
            **{**parameters, "options": options},
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
        )

    try:
        return opened(" ".join([*os.environ.get("PGOPTIONS", "").split(), *ours]))
    except psycopg.OperationalError as error:
        if "unsupported startup parameter" not in str(error):
            raise
        return opened("")


def _escaped(value: str) -> str:
    """A value in libpq's parameter options, where a space ends it unless it is escaped."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _late(conn: Connection, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that did not come with the startup packet: all of them where a pooler took them
    away, or where the path has letters that the database spells in another encoding."""
    path = _shown(conn, "search_path")
    late = {} if path == settings.get("search_path", path) else dict(settings)
    if (
        settings
        and conn.info.server_version >= 170000
        and _shown(conn, "transaction_timeout") != "0"
    ):
        late["transaction_timeout"] = "0"
    return late


def _require_origin(conn: Connection) -> None:
    found = _shown(conn, "session_replication_role")
    if found != "origin":
        raise RunbookError(
            f"session_replication_role is {found!r} for role {conn.info.user!r} in database "
            f"{conn.info.dbname!r}, not 'origin': other triggers can fire than for the "
            "application, and foreign keys can be left unchecked. Nothing was changed by this "
            "call. Next step: see who set it for the role, the database or both, or in PGOPTIONS, "
            "and why; then ALTER ROLE … RESET session_replication_role, or log in as another role."
        )


def _shown(conn: Connection, setting: str) -> str:
    row = one(conn, SQL("SHOW {}").format(Identifier(setting)))
    return str(row[setting])


def _set(conn: Connection, settings: Mapping[str, str], *, local: bool) -> None:
    for setting, value in settings.items():
        conn.execute("SELECT pg_catalog.set_config(%s, %s, %s)", (setting, value, local))


def _require_plain(login: Mapping[str, Any]) -> None:
    for key in PLAIN:
        if is_connection_string(login.get(key)):
            raise RunbookError(
                f"{key} in runbook_login is a whole connection string. It may have a password, so "
                "it is not shown, and no connection was tried. Next step: give host, port, dbname, "
                "user and password each under its own key, the password rather in a passfile."
            )


def _in_one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _connection_failure(login: Mapping[str, Any], error: psycopg.Error) -> str:
    where = login.get("host") or "the default host"
    port = f":{login['port']}" if login.get("port") else ""
    reason = _in_one_line(error)
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
    "unrecognized configuration parameter": "see which version the server is; pgrunbook needs "
    "PostgreSQL 14 or newer.",
    "no pg_hba.conf entry": "have the server's pg_hba.conf let this role in from here, or set "
    "sslmode as it asks.",
}
_ANY = "check how to connect (runbook_login in the inventory), and that the server is up."
