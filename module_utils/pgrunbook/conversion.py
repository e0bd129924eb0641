# SPDX-License-Identifier: GPL-3.0-or-later
"""A column gets its right type without a rewrite of the table.

ALTER COLUMN … TYPE would write the whole table and its indexes anew, under ACCESS EXCLUSIVE. Here
the column of the wrong type is put aside under another name, and a new one takes its place: two
changes of the catalog. The backfill then moves the old values over, converted, in its batches, and
fills the others from the source. Nothing is lost: the old column stays until somebody drops it,
with its values, its indexes and its place in the table, and undoing the conversion is giving its
name back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg.sql import SQL, Composable, Composed

from .catalog import ColumnInfo, IndexInfo, TableInfo
from .connection import Connection, one
from .errors import RunbookError
from .obstacles import Obstacles
from .shown import yaml
from .spec import Column, Spec
from .sql import cut, filled_in, name, rename_column, rename_index, table, text

LOCK = "ACCESS EXCLUSIVE, for the catalog change only: milliseconds once it is granted, no rewrite"

KEPT = (
    "by hand, the undo drops no column: what was stored in the new one meanwhile stays, under "
    "another name, until you have seen that nobody needs it"
)


@dataclass(frozen=True)
class Conversion:
    """A column that has to be converted: old is the name that it bears now, aside the one that it
    is kept under. The phase's indexes on it that already bear their right names are put aside too.
    """

    column: Column
    old: str
    aside: str
    indexes: tuple[str, ...]


@dataclass(frozen=True)
class Fate:
    """What becomes of the values of a column that is converted: how many there are; for how many
    of these the conversion gives NULL, which the source then fills, or which become NULL; and how
    many of the others differ from the source's value."""

    values: int
    from_source: int
    become_null: int
    differ: int


@dataclass(frozen=True)
class Held:
    """What a row holds for a column of the phase, as SQL of the right type.

    now is what a query finds; filled is what the column of the right type has, which is NULL for
    as long as there is none; moved is what the column of the other type gives, None where the
    table has no such column.
    """

    now: Composable
    filled: Composable
    moved: Composable | None


def pending(spec: Spec, info: TableInfo) -> list[Conversion]:
    """The columns that still have the type that they are to be converted from."""
    types = info.types
    return [
        Conversion(
            c,
            _present(c, types),
            aside(spec, c.name),
            tuple(
                i.name
                for i in spec.indexes
                if i.name in info.indexes and _present(c, types) in _mentioned(info, i.name)
            ),
        )
        for c in spec.columns
        if _is_pending(c, types)
    ]


def held(spec: Spec, types: Mapping[str, str], row: str = "t.") -> dict[str, Held]:
    """What the rows of a table with columns of these types hold, by the phase's column. row is
    what stands before a column's name."""
    return {c.name: _held(spec, c, types, row) for c in spec.columns}


def readable(spec: Spec, types: Mapping[str, str]) -> dict[str, Composable]:
    """What to write in a query for each of the phase's columns."""
    return {column: values.now for column, values in held(spec, types, "").items()}


def statements(spec: Spec, conversion: Conversion) -> list[Composed]:
    """What puts the column aside and makes the new one, in one transaction."""
    column = conversion.column
    return [
        rename_column(spec.table, conversion.old, conversion.aside),
        *(rename_index(spec.table, index, aside(spec, index)) for index in conversion.indexes),
        SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
            table(spec.table), name(column.name), text(column.type)
        ),
    ]


def undo_statements(spec: Spec, conversion: Conversion) -> list[Composed]:
    """What gives the column that was put aside its name back, in one transaction, and keeps the new
    one under another name; the last one, which drops that, is for afterwards."""
    column, on = conversion.column, spec.table
    return [
        rename_column(on, column.name, superseded(spec, column)),
        rename_column(on, conversion.aside, conversion.old),
        *(rename_index(on, aside(spec, index), index) for index in conversion.indexes),
        SQL("ALTER TABLE {} DROP COLUMN {}").format(table(on), name(superseded(spec, column))),
    ]


def left_to_undo(
    spec: Spec, info: TableInfo, conversion: Conversion, *, there: bool
) -> list[Composed]:
    """Of the undo's statements, apart from the last one, those that are still to be done; there is
    whether the column that took the other's place is."""
    if conversion.aside not in info.columns:
        return []
    return undo_statements(spec, conversion)[0 if there else 1 : -1]


def made(spec: Spec, info: TableInfo, column: str, old: str) -> Conversion:
    """The conversion that was made of the column old, from what is there of it now."""
    (wanted,) = [c for c in spec.columns if c.name == column]
    indexes = tuple(i.name for i in spec.indexes if aside(spec, i.name) in info.indexes)
    return Conversion(wanted, old, aside(spec, column), indexes)


def foreseen(spec: Spec, info: TableInfo) -> TableInfo:
    """The table as it is after the conversions that it needs."""
    for each in pending(spec, info):
        columns = {each.aside if n == each.old else n: c for n, c in info.columns.items()}
        columns[each.column.name] = ColumnInfo(each.column.type, 0, False, False)
        indexes = {
            aside(spec, n) if n in each.indexes else n: replace(
                _put_aside(each, i),
                definition=_reworded(i.definition, each, spec),
            )
            for n, i in info.indexes.items()
        }
        partitions = tuple(
            replace(p, indexes={n: _put_aside(each, i) for n, i in p.indexes.items()})
            for p in info.partitions
        )
        info = replace(info, columns=columns, indexes=indexes, partitions=partitions)
    return info


def aside(spec: Spec, kept: str) -> str:
    """The name that a column, or an index on it, is put aside under: after its right name, so that
    it can be told later whatever it was called before."""
    return cut(kept, f"_before_{spec.phase}")


def superseded(spec: Spec, column: Column) -> str:
    """The name of the new column between the two steps of an undo, and after it where it holds
    values that the run did not write."""
    return cut(column.name, f"_after_{spec.phase}")


def require_safe(
    conn: Connection, spec: Spec, info: TableInfo, fates: Mapping[str, Fate]
) -> list[dict[str, Any]]:
    """The conversions that are needed, for the plan: column, old, aside, type, using, and what
    becomes of the values, as fates has it by the column's right name.

    Raises RunbookError with each conversion that would lose something, or has values to move that
    nobody acknowledged.
    """
    obstacles = Obstacles(conn)
    found = []
    for each in pending(spec, info):
        obstacles.checked(_require_free, conn, spec, info, each)
        obstacles.checked(_require_plain, conn, spec, info, each)
        found.append(obstacles.checked(_moved, spec, each, fates[each.column.name]) or {})
    obstacles.require_none()
    return found


def _moved(spec: Spec, conversion: Conversion, fate: Fate) -> dict[str, Any]:
    lost = fate.from_source + fate.become_null
    if fate.values and conversion.old not in spec.acknowledged:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} is {conversion.column.converted_from} and "
            f"holds {fate.values:,} values, of which {conversion.column.using!r} makes {lost:,} "
            f"NULL ({fate.from_source:,} of them are filled from the source). The backfill would "
            "move them in its batches; until a row's turn comes, queries find "
            f"NULL in {conversion.column.name!r}. Next step: if the application can bear that, "
            f"list {yaml(conversion.old)} in phase_acknowledged."
        )
    return {
        "column": conversion.column.name,
        "old": conversion.old,
        "aside": conversion.aside,
        "from": conversion.column.converted_from,
        "type": conversion.column.type,
        "using": conversion.column.using,
        **asdict(fate),
    }


def _require_free(conn: Connection, spec: Spec, info: TableInfo, conversion: Conversion) -> None:
    names = [conversion.aside, superseded(spec, conversion.column)]
    taken = [n for n in names if n in info.columns]
    taken += [
        aside(spec, index)
        for index in conversion.indexes
        if one(
            conn,
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s) AS taken",
            (spec.table.schema, aside(spec, index)),
        )["taken"]
    ]
    if taken:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} is to be converted, but the name "
            f"{taken[0]!r}, which that needs, is taken, perhaps by what an earlier conversion "
            "kept. Next step: see whether it is still needed, and drop or rename it."
        )


def _require_plain(conn: Connection, spec: Spec, info: TableInfo, conversion: Conversion) -> None:
    row = one(
        conn,
        "SELECT array_remove(ARRAY["
        " CASE WHEN attnotnull THEN 'is NOT NULL' END,"
        " CASE WHEN attidentity <> '' THEN 'is an identity column'"
        "      WHEN attgenerated <> '' THEN 'is generated'"
        "      WHEN atthasdef THEN 'has a default' END,"
        " CASE WHEN attacl IS NOT NULL THEN 'has privileges of its own' END], NULL) AS found"
        " FROM pg_attribute WHERE attrelid = %s::oid AND attname = %s",
        (info.oid, conversion.old),
    )
    if row["found"]:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} {' and '.join(row['found'])}, which the "
            "new column of the right type would not have. Next step: take that from it first, or "
            "convert it in a migration of its own."
        )


def _held(spec: Spec, column: Column, types: Mapping[str, str], row: str) -> Held:
    present = _present(column, types)
    kept = aside(spec, column.name)
    if _is_pending(column, types):
        moved = _converted(column, present, row)
        return Held(moved, SQL("NULL::{}").format(text(column.type)), moved)
    here = _column(present, row)
    is_kept = bool(column.using) and types.get(kept) == column.converted_from
    return Held(here, here, _converted(column, kept, row) if is_kept else None)


def _mentioned(info: TableInfo, index: str) -> set[str]:
    """The columns that an index depends on, also those of its condition."""
    return {*info.indexes[index].columns, *info.indexes[index].mentions}


def _put_aside(conversion: Conversion, index: IndexInfo) -> IndexInfo:
    """The index once the column is put aside, on which it stays."""
    columns = tuple(conversion.aside if c == conversion.old else c for c in index.columns)
    return replace(index, columns=columns)


def _present(column: Column, types: Mapping[str, str]) -> str:
    return column.name if column.name in types else column.renamed_from or column.name


def _is_pending(column: Column, types: Mapping[str, str]) -> bool:
    return bool(column.using) and types.get(_present(column, types)) == column.converted_from


def _converted(column: Column, of: str, row: str) -> Composed:
    """The expression using, on a column that may bear another name by now.

    Raises RunbookError where it has another placeholder than the column itself.
    """
    using = column.using or ""
    try:
        return SQL("({})").format(filled_in(using, {column.name: _column(of, row)}))
    except ValueError as error:
        raise RunbookError(
            f"The expression {using!r} that converts {column.name!r} has a placeholder that "
            f"cannot be filled ({error}). Next step: use {{{column.name}}} for the column in "
            "phase_columns, and double any other brace."
        ) from None


def _column(of: str, row: str) -> Composed:
    return SQL("{}{}").format(SQL(row), name(of))


def _reworded(definition: str, conversion: Conversion, spec: Spec) -> str:
    """An index's definition as a dry run shows it after the conversion."""
    renamed = {conversion.old: conversion.aside, **{i: aside(spec, i) for i in conversion.indexes}}
    words = "|".join(re.escape(old) for old in renamed)
    return re.sub(rf"(?<!\w)({words})(?!\w)", lambda found: renamed[found[0]], definition)
