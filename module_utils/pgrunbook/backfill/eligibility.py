# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows gain a value, and from where: everything about the rows that is only read.

A row is eligible when one of the phase's columns is NULL and the source has a value for it. In the
SQL, t is the table and s the source. Of a column that is converted, the values of the other type
come before those of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed, Literal

from ..catalog import TableInfo, conversion, page_ranges
from ..catalog.conversion import Held
from ..core.connection import Connection, rows_as
from ..core.errors import RunbookError, require_none
from ..core.spec import Spec
from ..core.sql import comma, expression, name, render, table
from .equality import comparable


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
    """The condition on t and s under which a row gains at least one value. Of a composite value IS
    NULL asks for its fields; IS DISTINCT FROM NULL asks for the value itself."""
    return any_of(
        SQL("({} IS NOT DISTINCT FROM NULL AND {} IS DISTINCT FROM NULL)").format(
            held[c.name].filled, value
        )
        for c, value in zip(spec.columns, values(spec, held), strict=True)
    )


def has_origin(held: Mapping[str, Held]) -> Composed:
    """The condition on t and s that there is something to fill a row from."""
    moved = [h.moved for h in held.values() if h.moved is not None]
    return any_of(SQL("{} IS DISTINCT FROM NULL").format(of) for of in (SQL("s.k0"), *moved))


def identity(spec: Spec) -> Composed:
    """What tells rows t apart, with commas between."""
    return comma(key_parts(spec))


def key_parts(spec: Spec) -> list[Composable]:
    """What tells rows t apart: the columns of their key, or where they lie if they have none."""
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


def require_joinable(conn: Connection, spec: Spec, info: TableInfo, source: TableInfo) -> None:
    """Raise RunbookError with the columns of the source key that cannot be compared with those of
    the table, because of their types or collations."""
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
    require_none(
        f"Columns {each.ours!r} of {spec.table} and {each.theirs!r} of {spec.source}, which "
        f"phase_source_key compares, have the collations {each.our_collation} and "
        f"{each.their_collation}, and PostgreSQL does not choose between them. Next step: make a "
        f"view of the source that has {each.theirs} COLLATE {each.our_collation}, and name that "
        "view as phase_source_table."
        for each in _compared_keys(conn, spec)
        if each.conflict
    )


@dataclass(frozen=True)
class _ComparedKey:
    """A column of the table, the one of the source that it is compared with, and the collations of
    both. conflict is whether PostgreSQL does not know by which to compare them; otherwise is
    whether it may compare them otherwise than the source compares its own keys."""

    ours: str
    theirs: str
    our_collation: str
    their_collation: str
    conflict: bool
    otherwise: bool


_COMPARED_KEYS = """
SELECT a.attname AS ours, b.attname AS theirs, a.attcollation::regcollation::text AS our_collation,
    b.attcollation::regcollation::text AS their_collation,
    a.attcollation <> b.attcollation
      AND NOT ARRAY[a.attcollation, b.attcollation] && ARRAY[0, d.oid] AS conflict,
    a.atttypid <> b.atttypid OR a.attcollation <> b.attcollation AS otherwise
FROM unnest(%s::text[], %s::text[]) u(ours, theirs)
JOIN pg_attribute a ON a.attrelid = to_regclass(%s) AND a.attname = u.ours
JOIN pg_attribute b ON b.attrelid = to_regclass(%s) AND b.attname = u.theirs,
(SELECT 'pg_catalog."default"'::regcollation::oid AS oid) d
"""


def _compared_keys(conn: Connection, spec: Spec) -> list[_ComparedKey]:
    columns = ([*spec.source_key], [*spec.source_key.values()])
    tables = (render(table(spec.table)), render(table(spec.source)))
    return rows_as(conn, _ComparedKey, _COMPARED_KEYS, (*columns, *tables))


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
    if any(each.otherwise for each in _compared_keys(conn, spec)):
        _require_one_match(conn, spec)


def _require_one_match(conn: Connection, spec: Spec) -> None:
    """The same as the join compares the keys: the table's type or collation may tell less apart."""
    ours = comma(SQL("t.{}").format(name(column)) for column in spec.source_key)
    keys = [
        SQL("{} AS {}").format(name(column), name(f"k{n}"))
        for n, column in enumerate(spec.source_key.values())
    ]
    query = SQL(
        "SELECT jsonb_build_array({ours})::text AS key, count(*) AS n"
        " FROM (SELECT DISTINCT {ours} FROM {table} t) t"
        " JOIN (SELECT {keys} FROM {source}) s ON {matches}"
        " GROUP BY {ours} HAVING count(*) > 1 LIMIT 1"
    ).format(
        ours=ours,
        table=table(spec.table),
        keys=comma(keys),
        source=table(spec.source),
        matches=matches(spec),
    )
    row = conn.execute(query, ()).fetchone()
    if row:
        raise RunbookError(
            f"{spec.source} has {row['n']} rows whose keys are all equal to the key {row['key']} "
            f"of {spec.table}, because the types or collations of the two differ. So it is "
            "undefined which one fills. Next step: name a view with one row a key, of the "
            "table's type and collation, as phase_source_table."
        )


def any_left(conn: Connection, spec: Spec, info: TableInfo, among: Composable) -> bool:
    """Whether a row t of which the condition among is true is eligible still: others had locked it,
    or it came behind the sweep."""
    held = conversion.held(spec, info.types)

    def looking(rows: Composable) -> Composed:
        return SQL("SELECT FROM {} t {} ({}) s ON {} WHERE {} AND {} LIMIT 1").format(
            rows, joined(held), source_query(spec), matches(spec), eligible(spec, held), among
        )

    return bool(page_ranges.some(conn, spec.table, info, looking, 1))


def percentage(part: int, whole: int) -> float:
    """part of whole in per cent, with two decimals, rounded down; of nothing it is 100."""
    return part * 10000 // whole / 100 if whole else 100.0


def any_of(conditions: Iterable[Composable]) -> Composed:
    """The conditions with OR between them."""
    return SQL("({})").format(SQL(" OR ").join(conditions))
