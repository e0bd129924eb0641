# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions of partial indexes: whether the server would take one, and whether two are the same.
Only reads.

Two conditions are compared as the server spells them. It spells a condition out, with its constant
parts computed, in the plan of a query that is never executed. That query reads rows that stand for
the table's, so the table need not be there as it is going to be.

An index takes no function whose value may change. The planner tells whether there is one: it is
sure that a condition and its opposite are never both true only if each always has the same value,
and then it plans no scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed

from ..catalog import IndexInfo, TableInfo, volatile
from ..core.connection import Connection
from ..core.errors import RunbookError, reason
from ..core.reconnect import raise_if_lost
from ..core.spec import Index, Spec, Table
from ..core.sql import comma, expression, name, text

_YES_OR_NO = SQL("CASE WHEN {} THEN true ELSE false END")


def spelled(conn: Connection, on: Table, types: Mapping[str, str], condition: str) -> str:
    """The server's spelling of a condition on the rows of a table with columns of these types.
    Columns are numbers in it, not names.

    Raises psycopg.Error where it is no condition.
    """
    return str(_planned(conn, on, types, condition)["Output"][0])


def require_sound(conn: Connection, spec: Spec, types: Mapping[str, str], index: Index) -> None:
    """Raise RunbookError where no index can have this condition on the phase's table, which has
    columns of these types by then."""
    said = f"The condition {index.where!r} of index {index.name!r} cannot be used on {spec.table}"
    query = SQL("SELECT {} FROM {}").format(expression(index.where), _rows(spec.table, types))
    volatile.require_none_assigns(conn, query, said)
    try:
        with conn.transaction():
            planned = _planned(conn, spec.table, types, index.where)
            constant = _is_constant(conn, spec.table, types, index.where)
    except psycopg.Error as error:
        raise_if_lost(error)
        why = reason(error)
    else:
        if constant and "Plans" not in planned:
            return
        why = (
            "it has a subquery"
            if "Plans" in planned
            else "a function, an operator or a cast in it may give another value at another time "
            "or with other settings, such as now()"
        )
    raise RunbookError(f"{said}: {why}. Next step: correct where in phase_indexes.")


def with_spelling(conn: Connection, on: Table, info: TableInfo) -> TableInfo:
    """The table with the predicates of its indexes, and of those of its partitions, as spelled()
    has them."""
    known: dict[str, str] = {}

    def comparable(of: str) -> str:
        if of and of not in known:
            known[of] = _of_index(conn, on, info.types, of)
        return known.get(of, "")

    def each(indexes: Mapping[str, IndexInfo]) -> dict[str, IndexInfo]:
        return {n: replace(i, predicate=comparable(i.predicate)) for n, i in indexes.items()}

    return replace(
        info,
        indexes=each(info.indexes),
        partitions=tuple(replace(p, indexes=each(p.indexes)) for p in info.partitions),
    )


def _of_index(conn: Connection, on: Table, types: Mapping[str, str], predicate: str) -> str:
    """As spelled(). Where the server cannot spell a condition so, such as one on the table that a
    row is in, it is the catalog's own spelling, which equals no other."""
    try:
        with conn.transaction():
            return spelled(conn, on, types, predicate)
    except psycopg.Error as error:
        raise_if_lost(error)
        return predicate


def _planned(
    conn: Connection, on: Table, types: Mapping[str, str], condition: str
) -> Mapping[str, Any]:
    of = expression(condition)
    query = SQL("EXPLAIN (VERBOSE, FORMAT JSON) SELECT {}, {} FROM {}").format(
        of, _YES_OR_NO.format(of), _rows(on, types)
    )
    return _plan(conn, query)


def _is_constant(conn: Connection, on: Table, types: Mapping[str, str], condition: str) -> bool:
    """Whether the condition always has the same value for the same row."""
    of = _YES_OR_NO.format(expression(condition))
    query = SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} WHERE {} AND NOT {}").format(
        _rows(on, types), of, of
    )
    with conn.transaction(force_rollback=True):
        conn.execute("SET LOCAL constraint_exclusion = on")
        return "Values Scan" not in str(_plan(conn, query))


def _plan(conn: Connection, query: Composed) -> Mapping[str, Any]:
    """What EXPLAIN says of the first node. A binary result asks for the extended protocol, and only
    that refuses a text with more than one statement."""
    row = conn.execute(query, (), binary=True).fetchone()
    plan: Mapping[str, Any] = row["QUERY PLAN"][0]["Plan"] if row else {}
    return plan


def _rows(on: Table, types: Mapping[str, str]) -> Composed:
    """Two rows, which the planner does not take for constants, under the table's own name."""
    row = SQL("({})").format(comma(SQL("NULL::{}").format(text(of)) for of in types.values()))
    return SQL("(VALUES {}, {}) AS {} ({})").format(
        row, row, name(on.name), comma(name(column) for column in types)
    )
