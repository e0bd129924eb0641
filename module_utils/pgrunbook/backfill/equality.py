# SPDX-License-Identifier: GPL-3.0-or-later
"""When two values are the same. Only reads.

Not every type has an = that is equality: json, xml and point have none, that of box compares areas.
The server knows which has: those that DISTINCT takes, because their default operator class for
B-trees or hashes has an equality. Arrays, domains and composite types go by what they are made of.
Values of all other types are compared by their text. The collation is that of the column, whatever
the source's values have. A value of the source that the
column cannot hold is another one: it is not cast, which would fail or cut it, and a domain's
constraints are not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL, Composable, Composed

from ..catalog import TableInfo, conversion, names_there, type_limits
from ..core.connection import Connection
from ..core.spec import Column, Spec
from ..core.sql import comma, expression, table, text


@dataclass(frozen=True)
class Rule:
    """How the values of a column are compared. They are cast to the type, of a domain to the one
    that it is made of; then follows the suffix: a cast, a collation, or nothing. narrow tells that
    the source may have values which the type cannot hold."""

    type: str
    suffix: str = ""
    narrow: bool = False


Rules = Mapping[str, Rule]
"""By the phase's column."""

_COLLATIONS = """
SELECT a.attname AS name, format(' COLLATE %%I.%%I', n.nspname, c.collname) AS suffix
FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE a.attrelid = %s::oid
"""


def rules(conn: Connection, spec: Spec, info: TableInfo) -> dict[str, Rule]:
    """How the values of the phase's columns are compared."""
    found = {row["name"]: row["suffix"] for row in conn.execute(_COLLATIONS, (info.oid,))}
    converted = {each.column.name for each in conversion.pending(spec, info)}
    now = names_there(spec, info)
    given = _types_of_source(conn, spec)
    return {
        c.name: _rule(
            conn,
            c,
            "" if c.name in converted else found.get(now.get(c.name, ""), ""),
            None if c.using else given[n],
        )
        for n, c in enumerate(spec.columns)
    }


def _rule(conn: Connection, column: Column, collation: str, given: int | None) -> Rule:
    """given is the oid of the type of all values that the column gets, None where that differs."""
    base = type_limits.base_type(conn, column.type)
    suffix = collation if comparable(conn, base, base) else "::text"
    return Rule(base, suffix, type_limits.may_be_too_large(base, given))


def _types_of_source(conn: Connection, spec: Spec) -> list[int]:
    """The oids of the source expressions' types, by the phase's columns."""
    query = SQL("SELECT {} FROM {} LIMIT 0").format(
        comma(expression(c.source) for c in spec.columns), table(spec.source)
    )
    return [column.type_code for column in conn.execute(query, ()).description or ()]


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


def differs(column: Column, held: Composable, value: Composable, by: Rules) -> Composed:
    """The condition that held, which is of the column's type, is another value than value; NULL
    where one of them is."""
    rule = by.get(column.name, Rule(column.type))
    other = SQL("{} <> {}").format(*_sides(rule, held, value))
    if not rule.narrow:
        return SQL("({})").format(other)
    return SQL("CASE WHEN {} IS NULL THEN NULL WHEN {} THEN true ELSE {} END").format(
        held, type_limits.too_large(rule.type, value), other
    )


def same(column: Column, held: Composable, value: Composable, by: Rules) -> Composed:
    """The condition that it is the same value."""
    return SQL("(NOT {})").format(differs(column, held, value, by))


def cast(column: Column, value: Composable, by: Rules) -> Composed:
    """A value as the column holds it; NULL where the column cannot hold it."""
    rule = by.get(column.name, Rule(column.type))
    fitting = SQL("({})::{}").format(value, text(rule.type))
    if not rule.narrow:
        return fitting
    return SQL("CASE WHEN NOT {} THEN {} END").format(
        type_limits.too_large(rule.type, value), fitting
    )


def stored(column: Column, value: Composable, by: Rules) -> Composed:
    """The text of a value as it will be stored, or as it is where the column cannot hold it."""
    return SQL("coalesce({}::text, {}::text)").format(cast(column, value, by), value)


def _sides(rule: Rule, held: Composable, value: Composable) -> tuple[Composed, Composed]:
    suffix = text(rule.suffix)
    return (
        SQL("{}{}").format(held, suffix),
        SQL("{}::{}{}").format(value, text(rule.type), suffix),
    )
