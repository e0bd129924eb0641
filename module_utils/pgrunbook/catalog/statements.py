# SPDX-License-Identifier: GPL-3.0-or-later
"""Which statements the server has counted: extension pg_stat_statements, where it is. Only reads.

Its view may be replaced by whoever owns it, so its function is called, and only one in C: none but
a superuser can have made that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import errors
from psycopg.sql import SQL, Composed, Identifier

from ..core.connection import Connection
from ..core.sql import names_in

UNREADABLE = "<insufficient privilege>"
"""What the extension shows in place of another role's statement."""

_FUNCTIONS = """
SELECT p.proname AS name, n.nspname AS schema, has_schema_privilege(n.oid, 'USAGE')
       AND has_function_privilege(p.oid, 'EXECUTE') AS callable
FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
JOIN pg_proc p ON p.oid = d.objid
JOIN pg_language l ON l.oid = p.prolang
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE e.extname = 'pg_stat_statements' AND l.lanname = 'c'
AND p.proname IN ('pg_stat_statements', 'pg_stat_statements_info')
"""
_INSTALLED = "SELECT FROM pg_extension WHERE extname = 'pg_stat_statements'"
_COUNTED = """
SELECT to_jsonb(s) - 'query' AS found, s.query, pg_get_userbyid(s.userid)::text AS role,
       pg_get_userbyid(s.userid) = current_user AS own
FROM {function}(true) s
WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (s.query = %(unreadable)s OR strpos(lower(s.query COLLATE "C"), %(table)s) > 0
    AND EXISTS (SELECT FROM unnest(%(columns)s::text[]) AS c
                WHERE strpos(lower(s.query COLLATE "C"), c) > 0))
ORDER BY s.calls DESC, s.queryid
"""


@dataclass(frozen=True)
class Statement:
    """A statement as the server counted it: its text, with parameters in place of values; the role
    that sent it; how often and for how many milliseconds it was executed; and since when it is
    counted, in ISO 8601, None before PostgreSQL 17. id is its queryid."""

    id: str
    query: str
    role: str
    calls: int
    mean_ms: float
    total_ms: float
    since: str | None


@dataclass(frozen=True)
class Counted:
    """The statements that were looked for, those most often called first, and since when the server
    counts, in ISO 8601, None where it does not say. unreadable counts the statements of this
    database whose text our role may not see, own those among the found that our role sent. unknown
    says why nothing could be read; empty where it could."""

    statements: tuple[Statement, ...] = ()
    since: str | None = None
    unreadable: int = 0
    own: int = 0
    unknown: str = ""


def naming(conn: Connection, table: str, columns: Iterable[str]) -> Counted | None:
    """The statements of this database that name the table and one of the columns, whatever the
    schema; None where the extension is not there. Left out are those that name schema pgrunbook,
    and those of our own role, which are counted."""
    if conn.execute(_INSTALLED).fetchone() is None:
        return None
    functions = {row["name"]: row for row in conn.execute(_FUNCTIONS)}
    counting = functions.get("pg_stat_statements")
    if not counting or not counting["callable"]:
        role = conn.info.user
        return Counted(unknown=f"role {role!r} may not call function pg_stat_statements")
    try:
        with conn.transaction():
            since = _since(conn, functions.get("pg_stat_statements_info"))
            return _counted(conn, counting, table, frozenset(columns), since)
    except errors.ObjectNotInPrerequisiteState:
        return Counted(unknown="pg_stat_statements is not in shared_preload_libraries")


def _since(conn: Connection, info: Mapping[str, Any] | None) -> str | None:
    if not info or not info["callable"]:
        return None
    row = conn.execute(SQL("SELECT stats_reset FROM {}()").format(_called(info))).fetchone()
    return _seconds(row["stats_reset"]) if row and row["stats_reset"] else None


def _seconds(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _counted(
    conn: Connection,
    counting: Mapping[str, Any],
    table: str,
    columns: frozenset[str],
    since: str | None,
) -> Counted:
    looked_for = {
        "unreadable": UNREADABLE,
        "table": _roughly(table),
        "columns": [_roughly(column) for column in columns],
    }
    rows = conn.execute(SQL(_COUNTED).format(function=_called(counting)), looked_for).fetchall()
    found = [row for row in rows if _names(row["query"], table, columns)]
    return Counted(
        statements=tuple(_statement(row) for row in found if not row["own"]),
        since=since,
        unreadable=sum(row["query"] == UNREADABLE for row in rows),
        own=sum(row["own"] for row in found),
    )


def _called(function: Mapping[str, Any]) -> Composed:
    return SQL("{}").format(Identifier(function["schema"], function["name"]))


def _roughly(name: str) -> str:
    """What of a name is in each statement that has it, in small letters, quoted or not."""
    return "".join(c.lower() if c.isascii() else c for c in name.replace('"', '""'))


def _names(query: str, table: str, columns: frozenset[str]) -> bool:
    found = names_in(query)
    return table in found and bool(columns & found) and "pgrunbook" not in found


def _statement(row: Mapping[str, Any]) -> Statement:
    """The columns of the function have other names in older versions of the extension."""
    found = row["found"]
    since = found.get("stats_since")
    return Statement(
        id=str(found["queryid"]),
        query=row["query"],
        role=row["role"],
        calls=found["calls"],
        mean_ms=round(found.get("mean_exec_time", found.get("mean_time", 0.0)), 3),
        total_ms=round(found.get("total_exec_time", found.get("total_time", 0.0)), 3),
        since=_seconds(datetime.fromisoformat(since)) if since else None,
    )
