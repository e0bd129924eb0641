# SPDX-License-Identifier: GPL-3.0-or-later
"""When two values are the same. Only reads.

Not every type has an = that is equality: json, xml and point have none, that of box compares areas.
The server knows which has: those that DISTINCT takes, because their default operator class for
B-trees or hashes has an equality. Arrays, domains and composite types go by what they are made of.
Values of all other types are compared by their text.
"""

from __future__ import annotations

from collections.abc import Collection

import psycopg
from psycopg.sql import SQL, Composable, Composed

from .connection import Connection
from .spec import Column, Spec
from .sql import text


def compared_as_text(conn: Connection, spec: Spec) -> frozenset[str]:
    """The names of the phase's columns whose values have to be compared by their text."""
    return frozenset(c.name for c in spec.columns if not comparable(conn, c.type, c.type))


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


def differs(
    column: Column, held: Composable, value: Composable, as_text: Collection[str]
) -> Composed:
    """The condition that held, which is of the column's type, is another value than value, which
    is cast to it; NULL where one of them is. as_text is what compared_as_text() gives."""
    return SQL("({} <> {})").format(*_sides(column, held, value, as_text))


def same(column: Column, held: Composable, value: Composable, as_text: Collection[str]) -> Composed:
    """The condition that it is the same value."""
    return SQL("({} = {})").format(*_sides(column, held, value, as_text))


def _sides(
    column: Column, held: Composable, value: Composable, as_text: Collection[str]
) -> tuple[Composed, Composed]:
    cast = SQL("::text") if column.name in as_text else SQL("")
    return (
        SQL("{}{}").format(held, cast),
        SQL("{}::{}{}").format(value, text(column.type), cast),
    )
