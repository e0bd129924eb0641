# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that opens connections, and proves that a dry run was one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row, dict_row
from psycopg.sql import SQL, Identifier

from .errors import LOST, RunbookError
from .heartbeat import ANSWER_SECONDS, watch
from .pooler import answering, require_own_session
from .version import VERSION

MINIMUM_VERSION = 140000  # TID range scans came with PostgreSQL 14
STATEMENT_TIMEOUT = "15min"
IDLE_IN_TRANSACTION_TIMEOUT = "1min"
PATIENT_LOCK_TIMEOUT = "30min"


PLAIN = ("host", "dbname")
"""Where people put a whole connection string, which may have a password."""

Connection = psycopg.Connection[dict[str, Any]]
Row = TypeVar("Row")


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
    "pgrunbook/". A read_only connection is one READ ONLY transaction for all that it does, unless
    read_only.short_transaction() ends it; otherwise it is in autocommit mode. Names are looked up
    in pg_catalog, then in the schemas. Raises RunbookError when the server cannot be
    used, or others may get the session behind it.
    """
    _require_plain(login)
    parameters = {
        **({"target_session_attrs": "primary"} if "," in str(login.get("host") or "") else {}),
        **{key: value for key, value in login.items() if value not in (None, "")},
        "application_name": f"pgrunbook/{name} {VERSION}",
        "client_encoding": "UTF8",
    }
    settings = {
        **SETTINGS,
        "lock_timeout": f"{lock_timeout_ms}ms",
        "statement_timeout": STATEMENT_TIMEOUT,
        "search_path": search_path(schemas),
    }
    with contextlib.ExitStack() as stack:
        try:
            conn = stack.enter_context(_session(parameters, settings, read_only=read_only))
        except psycopg.Error as error:
            raise _connection_failure(login, error) from None
        require_version(conn.info.server_version)
        require_encoding(conn.info.parameter_status("server_encoding") or "")
        yield conn


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


def rows_as(conn: Connection, kind: type[Row], query: Any, parameters: Any = None) -> list[Row]:
    """The rows that a query gives, each as a value of a dataclass: its columns are the fields."""
    with conn.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(query, parameters).fetchall()


def one(conn: Connection, query: Any, parameters: Any = None) -> dict[str, Any]:
    """The single row that a query gives, by column name."""
    row = conn.execute(query, parameters).fetchone()
    if row is None:
        raise AssertionError("the query gives one row")
    return row


SETTINGS = {
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


def probe(conn: Connection) -> Callable[[], bool]:
    """A question whether the server of a connection answers whoever connects, with an error too."""
    parameters = {**_parameters(conn), "connect_timeout": ANSWER_SECONDS}

    def answers() -> bool:
        try:
            with contextlib.closing(_open(parameters, {})) as other, answering(other):
                other.execute("SELECT")
        except RunbookError:
            return False
        except psycopg.Error as error:
            return "FATAL" in str(error)
        return True

    return answers


def _parameters(conn: Connection) -> dict[str, Any]:
    """What a connection was opened with, to the one server that it led to."""
    parameters: dict[str, Any] = conn.info.get_parameters()
    if conn.info.password:
        parameters["password"] = conn.info.password
    return parameters


def places(login: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The hosts that a login lists, each with its port, which is empty for the default one."""
    hosts = str(login.get("host") or "").split(",")
    ports = str(login.get("port") or "").split(",")
    return list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=False))


@contextlib.contextmanager
def elsewhere(
    conn: Connection, host: str, port: str, *, named: bool = True
) -> Iterator[Connection]:
    """A connection like this one, which only reads, to another host: a name, the directory of a
    Unix-domain socket; or unless it is named, an IP address that stands for the host of this
    connection. Raises psycopg.Error or RunbookError where there is none."""
    parameters = {
        **_parameters(conn),
        **({"host": host, "hostaddr": None} if named else {"hostaddr": host}),
        "port": port,
        "connect_timeout": ANSWER_SECONDS,
        "target_session_attrs": "any",
    }
    with _session(parameters, SETTINGS, read_only=True, alongside=conn) as other:
        yield other


@contextlib.contextmanager
def beside(
    conn: Connection, settings: Mapping[str, str], *, read_only: bool = False
) -> Iterator[Connection]:
    """Another connection like this one, with these settings. Raises RunbookError where there is
    none left, or the server is gone."""
    parameters = _parameters(conn)
    with contextlib.ExitStack() as stack:
        try:
            other = stack.enter_context(
                _session(parameters, settings, read_only=read_only, alongside=conn)
            )
        except psycopg.Error as error:
            reason = _in_one_line(error)
            raise RunbookError(
                f"Cannot open another connection to {conn.info.host}:{conn.info.port}: "
                f"{reason}. Next step: let server, role, database and connection pool "
                "allow one connection for each of phase_workers and one more, or lower "
                "phase_workers.",
                code="" if _is_full(reason) else LOST,
            ) from None
        yield other


@contextlib.contextmanager
def _session(
    parameters: Mapping[str, Any],
    settings: Mapping[str, str],
    *,
    read_only: bool = False,
    alongside: Connection | None = None,
) -> Iterator[Connection]:
    """Open a connection whose settings come with its startup packet, and close it.

    alongside is a connection to the same place whose session was found to be ours alone. Raises
    psycopg.Error where the connection cannot be opened, RunbookError where other triggers can
    fire than for the application.
    """
    with contextlib.closing(_open(parameters, settings)) as conn:
        watch(conn)
        with answering(conn):
            late = _late(conn, settings)
            _require_origin(conn)
        if alongside is None:
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


# A pooler may pass on some of what it is given, as PgBouncer does with what track_extra_parameters
# lists. Whatever the role or the database sets comes from them, not from the client.
_CAME = """
SELECT coalesce(bool_and(source = 'client'), true) AS came
FROM pg_catalog.pg_settings WHERE name = ANY (%s)
"""


def _late(conn: Connection, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that did not come with the startup packet: all of them where a pooler took one
    of them away, or where the path has letters that the database spells in another encoding."""
    path = _shown(conn, "search_path")
    came = one(conn, _CAME, (list(settings),))["came"]
    late = {} if came and path == settings.get("search_path", path) else dict(settings)
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
    """What libpq says; of several hosts the reason of each."""
    said = " ".join(str(error).split()).rstrip(".")
    _, several, each = said.partition(" All failures were: ")
    if not several:
        return said
    reasons = re.findall(r"(connection to server .+? failed: .+?)(?= Is the|\.? - host|$)", each)
    return "; ".join(reasons) or said


def _connection_failure(login: Mapping[str, Any], error: psycopg.Error) -> RunbookError:
    """Why there is no connection. What another try cannot change has no code."""
    where = login.get("host") or "the default host"
    port = f":{login['port']}" if login.get("port") else ""
    reason = _in_one_line(error)
    lasting = next((step for part, step in _CONNECTION_STEPS.items() if part in reason), "")
    step = lasting or (_FULL if _is_full(reason) else _ANY)
    return RunbookError(
        f"Cannot connect to {where}{port}, database {login.get('dbname') or '(default)'}, as "
        f"{login.get('user') or '(default)'}: {reason}. Next step: {step}",
        code="" if lasting else LOST,
    )


_CONNECTION_STEPS = {
    "certificate verify failed": "see that this is the right server, and that sslrootcert holds "
    "the authority that signed its certificate.",
    "does not match host name": "connect to a name or address that the server's certificate holds.",
    "password authentication failed": "check user and password, or what the passfile has for them.",
    "no password supplied": "give a password, or a passfile with one for this server and role.",
    "unrecognized configuration parameter": "see which version the server is; pgrunbook needs "
    "PostgreSQL 14 or newer.",
    "does not exist": "check user and dbname, and that this is the right server.",
    "no pg_hba.conf entry": "have the server's pg_hba.conf let this role in from here, or set "
    "sslmode as it asks.",
}
_NO_ROOM = ("too many connections", "too many clients", "connection slots are reserved")


def _is_full(reason: str) -> bool:
    return any(part in reason for part in _NO_ROOM)


_FULL = "let server, role and database allow more connections, or end some that nobody needs."
_ANY = "check how to connect (runbook_login in the inventory), and that the server is up."
