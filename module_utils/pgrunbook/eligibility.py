# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows gain a value, and from where: everything about the rows that is only read.

A row is eligible when one of the phase's columns is NULL and the source has a value for it. In the
SQL, t is the table and s the source. Of a column that is converted, the values of the other type
come before those of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from . import catalog, conversion, volatile
from .catalog import TableInfo
from .connection import Connection, one
from .conversion import Held
from .errors import RunbookError, reason, require_none
from .obstacles import Obstacles
from .spec import Column, Spec, Table
from .sql import comma, expression, name, table, text


def source_query(spec: Spec) -> Composed:
    """The source as a subquery: its key columns k0…, and the expressions' values v0…

    Only the source is in scope of the expressions, so their column names cannot be ambiguous.
    """
    keys = [
        SQL("{} AS {}").format(name(column), name(f"k{n}"))
        for n, column in enumerate(spec.source_key.values())
    ]
    values = [
        SQL("{} AS {}").format(expression(c.source), name(f"v{n}"))
        for n, c in enumerate(spec.columns)
    ]
    return SQL("SELECT {} FROM {}").format(comma([*keys, *values]), table(spec.source))


def matches(spec: Spec) -> Composed:
    """The join condition between the table t and the source s."""
    return SQL(" AND ").join(
        SQL("t.{} = s.{}").format(name(column), name(f"k{n}"))
        for n, column in enumerate(spec.source_key)
    )


def joined(held: Mapping[str, Held]) -> SQL:
    """How the source is joined to the table: where a column is converted, rows without a source can
    gain a value as well."""
    return SQL("JOIN" if all(h.moved is None for h in held.values()) else "LEFT JOIN")


def values(spec: Spec, held: Mapping[str, Held]) -> list[Composed]:
    """For each column, the value that a row is to have where it has none: of t and s."""
    return [_value(held[c.name].moved, f"v{n}") for n, c in enumerate(spec.columns)]


def eligible(spec: Spec, held: Mapping[str, Held]) -> Composed:
    """The condition on t and s under which a row gains at least one value. IS NULL would hold of a
    composite value of NULLs as well, which is a value."""
    return any_of(
        SQL("({} IS NOT DISTINCT FROM NULL AND {} IS NOT NULL)").format(held[c.name].filled, value)
        for c, value in zip(spec.columns, values(spec, held), strict=True)
    )


def has_origin(held: Mapping[str, Held]) -> Composed:
    """The condition on t and s that there is something to fill a row from."""
    moved = [h.moved for h in held.values() if h.moved is not None]
    return any_of(SQL("{} IS NOT NULL").format(of) for of in (SQL("s.k0"), *moved))


def count(conn: Connection, spec: Spec, info: TableInfo) -> dict[str, Any]:
    """Count the rows by what the backfill would do with them.

    Returns rows_total, rows_eligible, rows_skipped by reason, and for every column the share of
    rows that have a value now and would have one afterwards, in per cent.
    """
    held = conversion.held(spec, info.types)
    complete = SQL(" AND ").join(
        SQL("{} IS NOT NULL").format(held[c.name].filled) for c in spec.columns
    )
    no_key = any_of(SQL("t.{} IS NULL").format(name(c)) for c in spec.source_key)
    shares = comma(
        SQL("count({now}) AS {n}, count(coalesce({now}, {value})) AS {a}").format(
            now=held[c.name].now, value=value, n=name(f"now{n}"), a=name(f"after{n}")
        )
        for n, (c, value) in enumerate(zip(spec.columns, values(spec, held), strict=True))
    )
    query = SQL(
        "SELECT count(*) AS total,"
        " count(*) FILTER (WHERE {eligible}) AS eligible,"
        " count(*) FILTER (WHERE {complete}) AS already_complete,"
        " count(*) FILTER (WHERE NOT ({complete}) AND ({no_key}) AND NOT ({eligible}))"
        "   AS no_source_key,"
        " count(*) FILTER (WHERE NOT ({complete}) AND NOT ({no_key}) AND s.k0 IS NULL"
        "   AND NOT ({eligible})) AS no_source_row,"
        " count(*) FILTER (WHERE NOT ({complete}) AND s.k0 IS NOT NULL AND NOT ({eligible}))"
        "   AS source_has_no_value, {shares}"
        " FROM {table} t LEFT JOIN ({source}) s ON {matches}"
    ).format(
        eligible=eligible(spec, held),
        complete=complete,
        no_key=no_key,
        shares=shares,
        table=table(spec.table),
        source=source_query(spec),
        matches=matches(spec),
    )
    row = one(conn, query, ())
    total = row["total"]
    reasons = ("already_complete", "no_source_key", "no_source_row", "source_has_no_value")
    return {
        "rows_total": total,
        "rows_eligible": row["eligible"],
        "rows_skipped": {reason: row[reason] for reason in reasons},
        "coverage": {
            c.name: {
                "before": percentage(row[f"now{n}"], total),
                "after": percentage(row[f"after{n}"], total),
            }
            for n, c in enumerate(spec.columns)
        },
    }


def sample(conn: Connection, spec: Spec, info: TableInfo, rows: int) -> list[dict[str, Any]]:
    """Up to that many eligible rows at random, each with key and values before and after."""
    names = catalog.present_names(spec, info)
    before = [
        SQL("to_jsonb(t.{}) AS {}").format(name(names[c.name]), name(f"b{n}"))
        for n, c in enumerate(spec.columns)
    ]
    held = conversion.held(spec, info.types)
    after = [
        SQL("to_jsonb(coalesce({}, {})) AS {}").format(held[c.name].filled, value, name(f"a{n}"))
        for n, (c, value) in enumerate(zip(spec.columns, values(spec, held), strict=True))
    ]
    query = SQL(
        "SELECT jsonb_build_array({keys}) AS key, {values} FROM {table} t {join} ({source}) s"
        " ON {matches} WHERE {eligible} ORDER BY {order} LIMIT %s"
    ).format(
        keys=identity(spec),
        values=comma([*before, *after]),
        table=table(spec.table),
        join=joined(held),
        source=source_query(spec),
        matches=matches(spec),
        eligible=eligible(spec, held),
        order=random_order(spec),
    )
    return [
        {
            "key": row["key"],
            "before": {c.name: row[f"b{n}"] for n, c in enumerate(spec.columns)},
            "after": {c.name: row[f"a{n}"] for n, c in enumerate(spec.columns)},
        }
        for row in conn.execute(query, (rows,))
    ]


def identity(spec: Spec) -> Composed:
    """What tells rows t apart, with commas between: their key, or where they lie if they have
    none."""
    if not spec.key:
        return comma([SQL("t.tableoid::regclass::text"), SQL("t.ctid::text")])
    return comma(SQL("t.{}").format(name(k)) for k in spec.key)


def random_order(spec: Spec) -> Composed:
    """What to order rows t by to take some at random: a hash of the key, salted by the seed."""
    return SQL("hashtextextended(jsonb_build_array({})::text, {})").format(
        identity(spec), Literal(spec.sample_seed)
    )


def _value(moved: Composable | None, of_source: str) -> Composed:
    value = SQL("s.{}").format(name(of_source))
    return value if moved is None else SQL("coalesce({}, {})").format(moved, value)


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
        if (why := _refusal(conn, each.column, each.on, each.of))
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
    asked = SQL("SELECT {} FROM {} t").format(each.of, table(each.on))
    try:
        return volatile.acknowledged(conn, spec, asked, each.said)
    except psycopg.Error as error:
        raise RunbookError(
            f"{each.said}: {error.diag.message_primary}. Next step: {each.mend}."
        ) from None


def acknowledged_of_source(conn: Connection, spec: Spec) -> set[str]:
    """The same for the source alone, of which not even a row can be counted without calling them
    where it is a view."""
    everything = SQL("SELECT FROM {}").format(table(spec.source))
    return volatile.acknowledged(conn, spec, everything, f"{spec.source} cannot be the source")


@dataclass(frozen=True)
class _Expression:
    """An expression on the rows t of a table, which fills a column; how a message about it begins,
    and what to do about it."""

    column: Column
    on: Table
    of: Composable
    said: str
    mend: str


def _expressions(spec: Spec, info: TableInfo) -> Iterator[_Expression]:
    held = conversion.held(spec, info.types)
    for c in spec.columns:
        yield _Expression(
            c,
            spec.source,
            expression(c.source),
            f"The source expression of column {c.name!r}, {c.source!r}, cannot be used on "
            f"{spec.source}",
            "correct source in phase_columns",
        )
        moved = held[c.name].moved
        if moved:
            yield _Expression(
                c,
                spec.table,
                moved,
                f"The expression {c.using!r} cannot convert column {c.name!r} of {spec.table}",
                "correct using in phase_columns",
            )


def _refusal(conn: Connection, column: Column, on: Table, of: Composable) -> str:
    """Why an expression on the rows of a table cannot fill the column; empty where it can."""
    try:
        with conn.transaction():
            for query in _trials(column, on, of):
                conn.execute(query, (), binary=True)
    except psycopg.errors.ReadOnlySqlTransaction as error:
        return f"it tries to write: {reason(error)}"
    except psycopg.Error as error:
        return reason(error)
    return ""


def _trials(column: Column, on: Table, of: Composable) -> list[Composed]:
    """Queries that fail where an expression on the rows t of a table would make a batch fail.

    A cast cuts a value that is too long; reading it as a record's field refuses it, as UPDATE does.
    """
    parts = {"e": of, "type": text(column.type), "on": table(on)}
    trials = ["SELECT count({e}), count(coalesce(NULL::{type}, {e})) FROM {on} t"]
    if column.type.endswith(")"):
        trials.append(
            "SELECT count(r.v) FROM (SELECT {e}::text AS v FROM {on} t) s,"
            " jsonb_to_record(jsonb_build_object('v', s.v)) AS r(v {type})"
        )
    return [SQL(trial).format(**parts) for trial in trials]


def require_unique_source(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError when two source rows have the same key: which one fills is undefined."""
    keys = comma(name(column) for column in spec.source_key.values())
    query = SQL(
        "SELECT jsonb_build_array({keys})::text AS key, count(*) AS n FROM {source}"
        " WHERE ({keys}) IS NOT NULL GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
    ).format(keys=keys, source=table(spec.source))
    row = conn.execute(query, ()).fetchone()
    if row:
        raise RunbookError(
            f"{spec.source} has {row['n']} rows for the key {row['key']}, so it is undefined "
            "which one fills. Next step: name a table or a view with one row a key as "
            "phase_source_table."
        )


def any_left(conn: Connection, spec: Spec, info: TableInfo) -> bool:
    """Whether a row is eligible still: others had locked it, or it came behind the sweep."""
    held = conversion.held(spec, info.types)
    query = SQL("SELECT EXISTS (SELECT FROM {} t {} ({}) s ON {} WHERE {}) AS any").format(
        table(spec.table), joined(held), source_query(spec), matches(spec), eligible(spec, held)
    )
    return bool(one(conn, query, ())["any"])


def percentage(part: int, whole: int) -> float:
    """part of whole in per cent, with two decimals, rounded down; of nothing it is 100."""
    return part * 10000 // whole / 100 if whole else 100.0


def any_of(conditions: Iterable[Composable]) -> Composed:
    """The conditions with OR between them."""
    return SQL("({})").format(SQL(" OR ").join(conditions))
