# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns of the wrong type: which are still to be converted, what their rows hold before and after
that, and under which names the old columns and indexes are kept. ddl/convert.py converts them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from psycopg.sql import SQL, Composable, Composed

from ..core.errors import RunbookError
from ..core.spec import Column, Spec
from ..core.sql import cut, filled_in, name, text
from .columns import name_now
from .indexes import IndexInfo
from .tables import ColumnInfo, TableInfo


@dataclass(frozen=True)
class Conversion:
    """A column that has to be converted. old is the name that it bears now, aside the name that it
    is kept under. indexes are those of the phase that are on it and already bear their right names:
    they are put aside too."""

    column: Column
    old: str
    aside: str
    indexes: tuple[str, ...]


@dataclass(frozen=True)
class Held:
    """What a row holds for a column of the phase, as SQL of the right type.

    now is what a query finds. filled is what the column of the right type has: NULL as long as
    there is no such column. moved is what the column of the wrong type gives, None where the table
    has no such column.
    """

    now: Composable
    filled: Composable
    moved: Composable | None


def pending(spec: Spec, info: TableInfo) -> list[Conversion]:
    """The columns that still have the type that they are to be converted from."""
    return [_pending(spec, info, c) for c in spec.columns if _is_pending(c, info.types)]


def held(spec: Spec, types: Mapping[str, str], row: str = "t.") -> dict[str, Held]:
    """What the rows of a table with columns of these types hold, by the phase's columns. row is
    what stands before the name of a column."""
    return {c.name: _held(spec, c, types, row) for c in spec.columns}


def readable(spec: Spec, types: Mapping[str, str]) -> dict[str, Composable]:
    """What to write in a query for each column of the phase."""
    return {column: values.now for column, values in held(spec, types, "").items()}


def made(spec: Spec, info: TableInfo, column: str, old: str) -> Conversion:
    """The conversion that a run made of the column old, from what is left of it now."""
    (wanted,) = [c for c in spec.columns if c.name == column]
    indexes = tuple(i.name for i in spec.indexes if aside(spec, i.name) in info.indexes)
    return Conversion(wanted, old, aside(spec, column), indexes)


def foreseen(spec: Spec, info: TableInfo) -> TableInfo:
    """The table as it will be after the conversions that are pending."""
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
    """The name that a column, or an index on it, is kept under. It is made of the right name, so it
    can be found later whatever the column was called before."""
    return cut(kept, f"_before_{spec.phase}")


def superseded(spec: Spec, column: Column) -> str:
    """What the new column is called between the two steps of an undo. It keeps that name where it
    holds values that the run did not write."""
    return cut(column.name, f"_after_{spec.phase}")


def _pending(spec: Spec, info: TableInfo, column: Column) -> Conversion:
    old = name_now(column, info.columns)
    there = [i.name for i in spec.indexes if i.name in info.indexes]
    on_it = tuple(n for n in there if old in _mentioned(info, n))
    return Conversion(column, old, aside(spec, column.name), on_it)


def _held(spec: Spec, column: Column, types: Mapping[str, str], row: str) -> Held:
    present = name_now(column, types)
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
    """The index after its column was put aside: it stays on that column."""
    columns = tuple(conversion.aside if c == conversion.old else c for c in index.columns)
    return replace(index, columns=columns)


def _is_pending(column: Column, types: Mapping[str, str]) -> bool:
    return bool(column.using) and types.get(name_now(column, types)) == column.converted_from


def _converted(column: Column, of: str, row: str) -> Composed:
    """The expression using of a column, for the name that the column bears by now.

    Raises RunbookError where the expression has another placeholder than the column itself.
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
