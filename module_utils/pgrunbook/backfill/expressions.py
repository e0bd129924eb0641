# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the phase's expressions be used? Source expressions and conversions are tried out here. Only
reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL, Composable, Composed

from ..catalog import TableInfo, conversion, type_limits, volatile
from ..core.connection import Connection
from ..core.errors import RunbookError, reason, require_none
from ..core.obstacles import Obstacles
from ..core.reconnect import raise_if_lost
from ..core.spec import Column, Spec
from ..core.sql import expression, table, text


def require_sound_expressions(conn: Connection, spec: Spec, info: TableInfo) -> list[str]:
    """Run each source expression over the source, and each conversion over the table, in this READ
    ONLY transaction. Returns the volatile functions in them, all of which are acknowledged.

    Raises RunbookError, naming the columns, where any calls a volatile function that is not
    acknowledged, and then none is run; or with those that are no single expression, fail, try to
    write, or give a value that the column's type does not take. The extended query protocol,
    which binary results ask for, takes one statement only.
    """
    found = acknowledged_functions(conn, spec, info)
    require_none(
        f"{each.said}: {why}. Next step: {each.mend}."
        for each in _expressions(spec, info)
        if (why := _refusal(conn, each))
    )
    return found


def acknowledged_functions(conn: Connection, spec: Spec, info: TableInfo) -> list[str]:
    """The volatile functions in the phase's expressions, and in the source where that is a view,
    spelled as phase_acknowledged lists them. Nothing is executed.

    Raises RunbookError with those that are not acknowledged, and the expressions that are wrong.
    """
    obstacles = Obstacles(conn)
    found = acknowledged_of_source(conn, spec)
    for each in _expressions(spec, info):
        found |= obstacles.checked(_acknowledged, conn, spec, each) or set()
    obstacles.require_none()
    return sorted(found)


def _acknowledged(conn: Connection, spec: Spec, each: _Expression) -> set[str]:
    asked = SQL("SELECT {} FROM {}").format(each.of, each.rows)
    try:
        return volatile.acknowledged(conn, spec, asked, each.said)
    except psycopg.Error as error:
        raise_if_lost(error)
        raise RunbookError(f"{each.said}: {reason(error)}. Next step: {each.mend}.") from None


def acknowledged_of_source(conn: Connection, spec: Spec) -> set[str]:
    """The same for the source alone, of which not even a row can be counted without calling them
    where it is a view."""
    everything = SQL("SELECT FROM {}").format(table(spec.source))
    return volatile.acknowledged(conn, spec, everything, f"{spec.source} cannot be the source")


@dataclass(frozen=True)
class _Expression:
    """An expression that fills a column; the rows that it is on, as an item of FROM; how a message
    about it begins, and what to do about it."""

    column: Column
    rows: Composable
    of: Composable
    said: str
    mend: str


def _expressions(spec: Spec, info: TableInfo) -> Iterator[_Expression]:
    held = conversion.held(spec, info.types)
    for c in spec.columns:
        yield _Expression(
            c,
            table(spec.source),
            expression(c.source),
            f"The source expression of column {c.name!r}, {c.source!r}, cannot be used on "
            f"{spec.source}",
            "correct source in phase_columns",
        )
        moved = held[c.name].moved
        if moved:
            yield _Expression(
                c,
                SQL("{} t").format(table(spec.table)),
                moved,
                f"The expression {c.using!r} cannot convert column {c.name!r} of {spec.table}",
                "correct using in phase_columns",
            )


def _refusal(conn: Connection, each: _Expression) -> str:
    """Why an expression cannot fill its column; empty where it can."""
    try:
        with conn.transaction():
            base = type_limits.base_type(conn, each.column.type)
            limited = type_limits.too_large(base, each.of) is not None
            for query in _trials(each, limited=limited):
                conn.execute(query, (), binary=True)
    except psycopg.errors.ReadOnlySqlTransaction as error:
        return f"it tries to write: {reason(error)}"
    except psycopg.Error as error:
        raise_if_lost(error)
        return reason(error)
    return ""


def _trials(each: _Expression, *, limited: bool) -> list[Composed]:
    """Queries that fail where an expression would make a batch fail.

    A cast cuts a value that is too long; reading it as a record's field refuses it, as UPDATE does.
    limited is whether constraints.foresee() tells for each row that the type is too small.
    """
    parts = {"e": each.of, "type": text(each.column.type), "rows": each.rows}
    trials = ["SELECT count({e}), count(coalesce(NULL::{type}, {e})) FROM {rows}"]
    if each.column.type.endswith(")") and not limited:
        trials.append(
            "SELECT count(r.v) FROM (SELECT {e}::text AS v FROM {rows}) s,"
            " jsonb_to_record(jsonb_build_object('v', s.v)) AS r(v {type})"
        )
    return [SQL(trial).format(**parts) for trial in trials]
