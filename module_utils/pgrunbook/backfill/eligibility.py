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

from .. import catalog
from ..catalog import TableInfo, conversion, type_limits, volatile
from ..catalog.conversion import Held
from ..core.connection import Connection, one
from ..core.errors import RunbookError, reason, require_none
from ..core.obstacles import Obstacles
from ..core.spec import Column, Spec, Table
from ..core.sql import comma, expression, name, table, text
from ..ddl import convert
from .equality import Rules, comparable, differs, stored


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
    return [_value(held[c.name].moved, of_source(n)) for n, c in enumerate(spec.columns)]


def of_source(number: int) -> Composed:
    """The source's value for the phase's column of that number, counted from 0."""
    return SQL("s.{}").format(name(f"v{number}"))


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
    rows that have a value now and would have one afterwards, in per cent, and how many would not,
    by reason.
    """
    held = conversion.held(spec, info.types)
    complete = SQL(" AND ").join(
        SQL("{} IS NOT NULL").format(held[c.name].filled) for c in spec.columns
    )
    no_key = any_of(SQL("t.{} IS NULL").format(name(c)) for c in spec.source_key)
    shares = comma(
        SQL(
            "count({now}) AS {n}, count(coalesce({filled}, {value})) AS {a}, jsonb_build_object("
            "'no_source_key', count(*) FILTER (WHERE {lacks} AND {no_key}), "
            "'no_source_row', count(*) FILTER (WHERE {lacks} AND NOT {no_key} AND s.k0 IS NULL), "
            "'source_has_no_value', count(*) FILTER (WHERE {lacks} AND s.k0 IS NOT NULL)) AS {l}"
        ).format(
            now=held[c.name].now,
            filled=held[c.name].filled,
            value=value,
            lacks=SQL("coalesce({}, {}) IS NULL").format(held[c.name].filled, value),
            no_key=no_key,
            n=name(f"now{n}"),
            a=name(f"after{n}"),
            l=name(f"lacking{n}"),
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
                "lacking": row[f"lacking{n}"],
            }
            for n, c in enumerate(spec.columns)
        },
    }


def fates(conn: Connection, spec: Spec, info: TableInfo, by: Rules) -> dict[str, convert.Fate]:
    """What becomes of the values of each column that has still to be converted."""
    held = conversion.held(spec, info.types)
    old = {each.column.name: each.old for each in conversion.pending(spec, info)}
    return {
        c.name: convert.Fate(**_fate(conn, spec, c, n, name(old[c.name]), held[c.name], by))
        for n, c in enumerate(spec.columns)
        if c.name in old
    }


def _fate(
    conn: Connection,
    spec: Spec,
    column: Column,
    number: int,
    old: Composable,
    held: Held,
    by: Rules,
) -> dict[str, int]:
    query = SQL(
        "SELECT count(t.{old}) AS values,"
        " count(*) FILTER (WHERE {lost} AND {value} IS NOT NULL) AS from_source,"
        " count(*) FILTER (WHERE {lost} AND {value} IS NULL) AS become_null,"
        " count(*) FILTER (WHERE {differs}) AS differ"
        " FROM {table} t LEFT JOIN ({source}) s ON {matches}"
    ).format(
        old=old,
        lost=SQL("t.{} IS NOT NULL AND {} IS NULL").format(old, held.now),
        value=of_source(number),
        differs=differs(column, held.now, of_source(number), by),
        table=table(spec.table),
        source=source_query(spec),
        matches=matches(spec),
    )
    return one(conn, query, ())


def sample(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, rows: int
) -> list[dict[str, Any]]:
    """Up to that many eligible rows at random, each with key and values before and after, as the
    server writes them: those afterwards as they will be stored."""
    names = catalog.present_names(spec, info)
    before = [
        SQL("t.{}::text AS {}").format(name(names[c.name]), name(f"b{n}"))
        for n, c in enumerate(spec.columns)
    ]
    held = conversion.held(spec, info.types)
    after = [
        SQL("coalesce({}::text, {}) AS {}").format(
            held[c.name].filled, stored(c, value, by), name(f"a{n}")
        )
        for n, (c, value) in enumerate(zip(spec.columns, values(spec, held), strict=True))
    ]
    query = SQL(
        "SELECT ARRAY[{keys}] AS key, {values} FROM {table} t {join} ({source}) s"
        " ON {matches} WHERE {eligible} ORDER BY {order} LIMIT %s"
    ).format(
        keys=comma(SQL("({})::text").format(part) for part in _identity(spec)),
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
    return comma(_identity(spec))


def _identity(spec: Spec) -> list[Composable]:
    if not spec.key:
        return [SQL("t.tableoid::regclass::text"), SQL("t.ctid::text")]
    return [SQL("t.{}").format(name(k)) for k in spec.key]


def random_order(spec: Spec) -> Composed:
    """What to order rows t by to take some at random: a hash of the key, salted by the seed."""
    return SQL("hashtextextended(jsonb_build_array({})::text, {})").format(
        identity(spec), Literal(spec.sample_seed)
    )


def _value(moved: Composable | None, value: Composed) -> Composed:
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
            limited = (
                type_limits.too_large(type_limits.base_type(conn, column.type), of) is not None
            )
            for query in _trials(column, on, of, limited=limited):
                conn.execute(query, (), binary=True)
    except psycopg.errors.ReadOnlySqlTransaction as error:
        return f"it tries to write: {reason(error)}"
    except psycopg.Error as error:
        return reason(error)
    return ""


def _trials(column: Column, on: Table, of: Composable, *, limited: bool) -> list[Composed]:
    """Queries that fail where an expression on the rows t of a table would make a batch fail.

    A cast cuts a value that is too long; reading it as a record's field refuses it, as UPDATE does.
    limited is whether constraints.foresee() tells for each row that the type is too small.
    """
    parts = {"e": of, "type": text(column.type), "on": table(on)}
    trials = ["SELECT count({e}), count(coalesce(NULL::{type}, {e})) FROM {on} t"]
    if column.type.endswith(")") and not limited:
        trials.append(
            "SELECT count(r.v) FROM (SELECT {e}::text AS v FROM {on} t) s,"
            " jsonb_to_record(jsonb_build_object('v', s.v)) AS r(v {type})"
        )
    return [SQL(trial).format(**parts) for trial in trials]


def require_joinable(conn: Connection, spec: Spec, info: TableInfo, source: TableInfo) -> None:
    """Raise RunbookError with the columns of the source key that cannot be compared with those of
    the table, because of their types."""
    pairs = (
        (ours, info.columns[ours].type, theirs, source.columns[theirs].type)
        for ours, theirs in spec.source_key.items()
    )
    require_none(
        f"Column {ours!r} of {spec.table} is {our_type}, and {theirs!r} of {spec.source}, which "
        f"phase_source_key compares it with, is {their_type}: PostgreSQL has no = between these "
        "types that tells equal values. Next step: make a view of the source that casts "
        f"{theirs} to {our_type}, and name that view as phase_source_table."
        if our_type != their_type
        else f"Columns {ours!r} of {spec.table} and {theirs!r} of {spec.source}, which "
        f"phase_source_key compares, are {our_type}, and PostgreSQL has no = for that type that "
        "tells equal values. Next step: name columns of another type as phase_source_key; a view "
        "that casts can be phase_source_table."
        for ours, our_type, theirs, their_type in pairs
        if not comparable(conn, our_type, their_type)
    )


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


def any_left(conn: Connection, spec: Spec, info: TableInfo, among: Composable) -> bool:
    """Whether a row t of which the condition among is true is eligible still: others had locked it,
    or it came behind the sweep."""
    held = conversion.held(spec, info.types)
    query = SQL("SELECT EXISTS (SELECT FROM {} t {} ({}) s ON {} WHERE {} AND {}) AS any").format(
        table(spec.table),
        joined(held),
        source_query(spec),
        matches(spec),
        eligible(spec, held),
        among,
    )
    return bool(one(conn, query, ())["any"])


def percentage(part: int, whole: int) -> float:
    """part of whole in per cent, with two decimals, rounded down; of nothing it is 100."""
    return part * 10000 // whole / 100 if whole else 100.0


def any_of(conditions: Iterable[Composable]) -> Composed:
    """The conditions with OR between them."""
    return SQL("({})").format(SQL(" OR ").join(conditions))
