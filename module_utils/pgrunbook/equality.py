# SPDX-License-Identifier: GPL-3.0-or-later
"""When two values are the same. Only reads.

Not every type has an = that is equality: json, xml and point have none, that of box compares areas.
The server knows which has: those that DISTINCT takes, because their default operator class for
B-trees or hashes has an equality. Arrays, domains and composite types go by what they are made of.
Values of all other types are compared by their text. Where a column has a collation of its own,
that is what its values are compared by, whatever the source's have.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg.sql import SQL, Composable, Composed

from . import conversion, limits
from .catalog import TableInfo, names_there
from .connection import Connection
from .spec import Column, Spec
from .sql import text

Suffixes = Mapping[str, str]
"""By the phase's column, SQL that follows a value for it to be compared: a cast, a collation, or
nothing. A column that is not there has nothing."""

_COLLATIONS = """
SELECT a.attname AS name, format(' COLLATE %%I.%%I', n.nspname, c.collname) AS suffix
FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE a.attrelid = %s::oid AND c.oid <> 'pg_catalog."default"'::regcollation
"""


def suffixes(conn: Connection, spec: Spec, info: TableInfo) -> dict[str, str]:
    """What has to follow the values of the phase's columns for them to be compared."""
    found = {row["name"]: row["suffix"] for row in conn.execute(_COLLATIONS, (info.oid,))}
    converted = {each.column.name for each in conversion.pending(spec, info)}
    return {
        column: found.get(now, "") if column not in converted else ""
        for column, now in names_there(spec, info).items()
    } | {c.name: "::text" for c in spec.columns if not comparable(conn, c.type, c.type)}


def comparable(conn: Connection, left: str, right: str) -> bool:
    """Whether the server has an = that is equality between two types. It only plans."""
    query = SQL(
        "EXPLAIN SELECT DISTINCT l.v, r.v FROM (SELECT NULL::{} AS v OFFSET 0) l,"
        " (SELECT NULL::{} AS v OFFSET 0) r WHERE l.v = r.v AND l.v <> r.v"
    ).format(text(left), text(right))
    try:
        with conn.transaction():
            conn.execute(query, ())
    except (psycopg.errors.UndefinedFunction, psycopg.errors.AmbiguousFunction):
        return False
    return True


def differs(column: Column, held: Composable, value: Composable, by: Suffixes) -> Composed:
    """The condition that held, which is of the column's type, is another value than value, which
    is cast to it; NULL where one of them is. A value that the type cannot hold is another one."""
    left, right = _sides(column, held, value, by)
    return SQL(
        "CASE WHEN {held} IS NULL THEN NULL WHEN {overflows} THEN true ELSE {left} <> {right} END"
    ).format(held=held, overflows=limits.overflows(column.type, value), left=left, right=right)


def same(column: Column, held: Composable, value: Composable, by: Suffixes) -> Composed:
    """The condition that it is the same value."""
    return SQL("({} = {})").format(*_sides(column, held, value, by))


def _sides(
    column: Column, held: Composable, value: Composable, by: Suffixes
) -> tuple[Composed, Composed]:
    suffix = text(by.get(column.name, ""))
    return (
        SQL("{}{}").format(held, suffix),
        SQL("{}::{}{}").format(value, text(column.type), suffix),
    )
