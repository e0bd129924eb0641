# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values a column's type is too small for. Only reads."""

from __future__ import annotations

import re

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from ..core.connection import Connection
from ..core.sql import text
from . import types

_WHOLE = {"smallint": 15, "integer": 31, "bigint": 63}  # their bits, the sign apart

_OIDS = {
    **{21: "smallint", 23: "integer", 20: "bigint"},
    **{1005: "smallint", 1007: "integer", 1016: "bigint"},
}
"""Of whole numbers and of arrays of them; fixed, in src/include/catalog/pg_type.dat."""

_BASE = """
WITH RECURSIVE types AS (
    SELECT oid, typtype, typbasetype, typtypmod FROM pg_type
    WHERE oid = to_regtype(%s) AND typtype = 'd'
    UNION ALL
    SELECT y.oid, y.typtype, y.typbasetype, CASE WHEN y.typtype = 'd' THEN y.typtypmod
                                                 ELSE t.typtypmod END
    FROM types t JOIN pg_type y ON y.oid = t.typbasetype WHERE t.typtype = 'd'
)
SELECT format_type(oid, typtypmod) AS name FROM types WHERE typtype <> 'd'
"""


def base_type(conn: Connection, spelled: str) -> str:
    """A type in format_type()'s spelling; for a domain, the type that it is made of."""
    row = conn.execute(_BASE, (spelled,)).fetchone()
    if row is not None:
        return str(row["name"])
    found = types.resolve_type(conn, spelled)
    return found[1] if found else spelled


def has_order(conn: Connection, spelled: str) -> bool:
    """Whether the server can sort values of a type. It only plans."""
    query = SQL("EXPLAIN SELECT FROM (SELECT NULL::{} AS v OFFSET 0) s ORDER BY s.v").format(
        text(spelled)
    )
    try:
        with conn.transaction():
            conn.execute(query, ())
    except psycopg.errors.UndefinedFunction:
        return False
    return True


def is_wider(base: str, given: int) -> bool:
    """Whether a type of whole numbers, or an array of them, in format_type()'s spelling, holds
    every value of the type with this oid."""
    element = base.removesuffix("[]")
    return element in _WHOLE and _WHOLE[element] >= _WHOLE.get(_OIDS.get(given, ""), 64)


def too_large(base: str, value: Composable) -> Composed | None:
    """The condition under which a column of this type, in format_type()'s spelling, refuses a value
    because it, or one in an array, is too long or too large. None where the type has no such
    limit."""
    if base.endswith("[]"):
        one = too_large(base.removesuffix("[]"), SQL("pgrunbook_one"))
        among = "coalesce((SELECT bool_or({}) FROM unnest({}) AS pgrunbook_one), false)"
        return SQL(among).format(one, value) if one else None
    limited = re.fullmatch(
        r"(character varying|character|numeric|bit|bit varying)\((\d+)(?:,(-?\d+))?\)", base
    )
    if base in _WHOLE:
        bits = Literal(_WHOLE[base])
        return SQL(
            "(round({v}::text::numeric) NOT BETWEEN -(2::numeric ^ {bits})"
            " AND 2::numeric ^ {bits} - 1)"
        ).format(v=value, bits=bits)
    if limited is None:
        return None
    if limited[1] == "numeric":
        scale = int(limited[3] or 0)
        most = SQL("'1e{}'::numeric").format(SQL(str(int(limited[2]) - scale)))
        return SQL(
            "({v}::text <> 'NaN' AND abs(round({v}::text::numeric, {scale})) >= {most})"
        ).format(v=value, scale=Literal(scale), most=most)
    if limited[1].startswith("bit"):
        compared = SQL("<>" if limited[1] == "bit" else ">")
        return SQL("(length({}) {} {})").format(value, compared, Literal(int(limited[2])))
    return SQL("(rtrim(substr({v}::text, {after}), ' ') <> '')").format(
        v=value, after=Literal(int(limited[2]) + 1)
    )


def may_be_too_large(base: str, given: int | None) -> bool:
    """Whether a value may be too large for this type, in format_type()'s spelling: then a cast
    fails, or cuts it. given is the oid of the value's type, None where that is not known."""
    if given is not None and is_wider(base, given):
        return False
    return too_large(base, SQL("")) is not None
