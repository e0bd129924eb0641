# SPDX-License-Identifier: GPL-3.0-or-later
"""Types as this server knows them, and whether a column has the one that the phase expects."""

from __future__ import annotations

import psycopg
from psycopg.sql import SQL

from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Column, Table
from ..core.sql import text
from .tables import ColumnInfo


def resolve_type(conn: Connection, spelled: str) -> tuple[int, str] | None:
    """The oid of a type and format_type()'s spelling of it, with its length or precision, as
    ColumnInfo has them. None where the server knows no such type, or it is no spelling of one."""
    query = (
        "SELECT format_type(oid, CASE WHEN typtype = 'd' THEN -1 ELSE %s END) AS name"
        " FROM pg_type WHERE oid = %s::oid"
    )
    try:
        with conn.transaction():
            row = one(conn, "SELECT to_regtype(%s)::oid::int8 AS oid", (spelled,))
            if row["oid"] is None:
                return None
            name = one(conn, query, (modifier(conn, spelled), row["oid"]))["name"]
    except (psycopg.errors.SyntaxError, psycopg.errors.InvalidParameterValue):
        return None
    return row["oid"], name


def modifier(conn: Connection, spelled: str) -> int:
    """The length or precision of a type, as pg_attribute.atttypmod has it."""
    result = conn.execute(SQL("SELECT NULL::{} LIMIT 0").format(text(spelled)), ()).pgresult
    return result.fmod(0) if result else -1


def require_type(conn: Connection, table: Table, name: str, info: ColumnInfo, wanted: str) -> None:
    """Raise RunbookError when a column has another type than the phase expects."""
    if _known_type(conn, name, wanted) != (info.type_oid, info.type):
        raise RunbookError(
            f"Column {name!r} of {table} is {info.type}; the phase expects {wanted}. "
            "The runbook changes no type unannounced. Next step: correct the type in the variables "
            f"file, or set converted_from: {info.type!r} and using in phase_columns to have it "
            "converted."
        )


_CONSTRAINED = """
WITH RECURSIVE types AS (
    SELECT oid, typtype, typbasetype, typnotnull FROM pg_type WHERE oid = to_regtype(%s)
    UNION ALL
    SELECT y.oid, y.typtype, y.typbasetype, y.typnotnull
    FROM types t JOIN pg_type y ON y.oid = t.typbasetype WHERE t.typtype = 'd'
)
SELECT oid::regtype::text AS domain, typnotnull AS not_null FROM types
WHERE typtype = 'd'
AND (typnotnull OR EXISTS (SELECT FROM pg_constraint WHERE contypid = types.oid))
ORDER BY typnotnull DESC, 1
"""


def constrained_domain(conn: Connection, spelled: str) -> tuple[str, bool] | None:
    """The domain with a constraint that a type is, or is made of, and whether that forbids NULL.
    None where there is none."""
    row = conn.execute(_CONSTRAINED, (spelled,)).fetchone()
    return (row["domain"], row["not_null"]) if row else None


def require_nullable(conn: Connection, column: Column) -> None:
    """Raise RunbookError where the type that a column is to have forbids NULL."""
    found = constrained_domain(conn, column.type)
    if found and found[1]:
        raise RunbookError(
            f"Column {column.name!r} is to be {column.type}, and the domain {found[0]} forbids "
            "NULL: no row could be without a value before it is filled, or after a rollback. Next "
            f"step: ALTER DOMAIN {found[0]} DROP NOT NULL; or set type of {column.name!r} in "
            "phase_columns to the type that the domain is made of."
        )


def require_known_type(conn: Connection, column: Column) -> None:
    """Raise RunbookError where the server does not know the type that a column is to have."""
    _known_type(conn, column.name, column.type)


def _known_type(conn: Connection, name: str, wanted: str) -> tuple[int, str]:
    found = resolve_type(conn, wanted)
    if found is None:
        raise RunbookError(
            f"{wanted!r} is no type that this server knows. "
            f"Next step: correct the type of {name!r} in the variables file."
        )
    return found
