# SPDX-License-Identifier: GPL-3.0-or-later
"""Take back what a run did to columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from psycopg.sql import SQL, Composed

from .. import catalog, ledger
from ..catalog import TableInfo, conversion
from ..catalog.conversion import Conversion
from ..catalog.dependents import Dependent, dependents
from ..core import printable
from ..core.connection import Connection, one
from ..core.errors import require_none
from ..core.spec import Spec
from ..core.sql import name, rename_column, render, table
from ..ledger import filled
from . import convert
from .columns import Change, do, foreseen
from .rename import LOCK
from .schema_change import Schema, SchemaChange
from .step import Step


def revert(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> SchemaChange:
    """Take back what this run did to columns, the latest first.

    A column that a conversion made is dropped only if it is empty by then, and nothing depends on
    it. Else it stays, under another name, and a warning says so. A dry run warns as far as that is
    known.
    """
    info = catalog.inspect(conn, spec.table)
    made = _made(conn, spec, info, run)
    held = {each.column.name: _on_new(conn, spec, info, made, each) for each in made.conversions}
    statements = [
        *(s for c in made.conversions for s in _undo(spec, info, made, c, held[c.column.name])),
        *(statement for change in made.renames for statement in change.statements),
    ]
    kept = [each for each in made.conversions if held[each.column.name]]
    warnings = [_kept_for(spec, each, held[each.column.name]) for each in kept]
    after = _foreseen(spec, info, made, kept)
    if not dry:
        warnings = _take_back(conn, spec, info, run, made)
        after = catalog.inspect(conn, spec.table).schema()
    queries = [render(statement) for statement in statements]
    return SchemaChange.of(spec.table, "columns", info, after, queries, warnings)


def step(change: SchemaChange) -> Step:
    """The step of a rollback's plan, from what revert() would do."""
    return Step(
        "rename", "Take names and types of columns back", tuple(change.queries), (), lock=LOCK
    )


def require_revertible(conn: Connection, spec: Spec, run: ledger.Run) -> None:
    """Raise RunbookError with what would stop revert(): a name that was taken since, or something
    on a column that a conversion made which would be about another column afterwards."""
    info = catalog.inspect(conn, spec.table)
    made = _made(conn, spec, info, run)
    require_none(
        [
            *(
                f"Column {column!r} of {spec.table} was made since, and the rollback needs the "
                "name for the column that had it before. Nothing was changed. Next step: rename or "
                "drop it, then plan the rollback again."
                for column in _taken(spec, info, made)
            ),
            *(
                f"{dependent.kind.capitalize()} {dependent.object} is on column "
                f"{each.column.name!r} of {spec.table}, which the rollback puts aside for the one "
                "that had its name before. Nothing was changed. Next step: drop it, or let it do "
                "without the column, then plan the rollback again."
                for each in made.conversions
                for dependent in _on_new(conn, spec, info, made, each)
                if dependent.kind not in _KEEPS
            ),
        ]
    )


_KEEPS = ("index", "constraint", "statistics object", "column default")
"""What may stay on a column that is put aside, and still is what it was."""


@dataclass(frozen=True)
class _Made:
    """What a run did to columns and what still stands of it. renames come with the statements that
    take them back; left are those whose column is not there any more. names has the columns by
    their present names. indexes are those that the run made, as dependents() calls them: the
    rollback takes them back first."""

    renames: list[Change]
    left: list[Change]
    conversions: list[Conversion]
    names: dict[str, str]
    indexes: set[str]


def _made(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run) -> _Made:
    renames = [
        Change("rename", c.old, c.new, [rename_column(spec.table, c.new, c.old)])
        for c in ledger.list_changes(conn, run.id, "rename")
    ]
    conversions = [
        conversion.made(spec, info, change.new, change.old)
        for change in ledger.list_changes(conn, run.id, "convert")
    ]
    names = {}
    if renames or conversions:
        names = filled.present_columns(conn, spec, info, run.id)
    stands = [change for change in renames if names.get(change.new) == change.new]
    left = [change for change in renames if change not in stands]
    indexes = _own_indexes(conn, spec, run) if conversions else set()
    return _Made(stands, left, conversions, names, indexes)


def _own_indexes(conn: Connection, spec: Spec, run: ledger.Run) -> set[str]:
    kinds = ("index_build", ledger.INDEX_TRIAL, ledger.INDEX_KEPT)
    own = {change.new for kind in kinds for change in ledger.list_changes(conn, run.id, kind)}
    named = conn.execute(
        "SELECT format('%%I.%%I', %s::text, n) AS of FROM unnest(%s::text[]) n",
        (spec.table.schema, sorted(own)),
    )
    return {row["of"] for row in named}


def _taken(spec: Spec, info: TableInfo, made: _Made) -> Iterator[str]:
    """The names that the rollback needs and that other columns have."""
    yield from (change.old for change in made.renames if change.old in info.columns)
    for each in made.conversions:
        if each.aside in info.columns:
            ours = {each.column.name} if each.column.name in made.names else set()
            wanted = [each.old, *([conversion.superseded(spec, each.column)] if ours else [])]
            yield from (n for n in wanted if n in info.columns and n not in ours)


def _undo(
    spec: Spec, info: TableInfo, made: _Made, each: Conversion, held: list[Dependent]
) -> list[Composed]:
    """The statements that are left to take a conversion back. held is what depends on the column
    that it made, which keeps that from being dropped."""
    there = each.column.name in made.names
    back = convert.left_to_undo(spec, info, each, there=there)
    dropped = there if back else conversion.superseded(spec, each.column) in info.columns
    keeps = not dropped or held
    return [*back, *([] if keeps else [convert.drop_statement(spec, each)])]


def _on_new(
    conn: Connection, spec: Spec, info: TableInfo, made: _Made, each: Conversion
) -> list[Dependent]:
    """What depends on the column that a conversion made, whatever its name is now. The indexes that
    the rollback takes back first are left out."""
    swapped = each.aside not in info.columns
    column = conversion.superseded(spec, each.column) if swapped else each.column.name
    if column not in (info.columns if swapped else made.names):
        return []
    return [
        d
        for d in dependents(conn, info.oid, column)
        if d.follows and d.kind != "publication" and d.object not in made.indexes
    ]


def _foreseen(spec: Spec, info: TableInfo, made: _Made, kept: list[Conversion]) -> Schema:
    """The schema afterwards; kept has the conversions whose new column stays."""
    swapped = {change.new: change.old for change in made.renames}
    swapped |= {each.aside: each.old for each in made.conversions}
    swapped |= {each.column.name: conversion.superseded(spec, each.column) for each in kept}
    gone = {c.column.name for c in made.conversions if c.aside in info.columns and c not in kept}
    return foreseen(info, swapped, gone)


def _take_back(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, made: _Made
) -> list[str]:
    """Take everything back, conversions first. Returns the warnings."""
    warnings = []
    for each in made.conversions:
        ledger.require_owner(conn, run)
        warnings += _convert_back(conn, spec, info, run, made, each)
    for change in made.renames:
        ledger.require_owner(conn, run)
        do(conn, spec, info, change, record=_undone(conn, run, change))
    for change in made.left:
        ledger.change_left(conn, run.id, "rename", old=change.old, new=change.new)
    return warnings


def _convert_back(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, made: _Made, each: Conversion
) -> list[str]:
    """Take a conversion back, also where an earlier rollback was broken off. Returns a warning
    where the new column stays. Nobody writes to that any more once it has another name, so no lock
    is needed to find out whether it is empty."""
    new, old = each.column.name, each.old
    back = convert.left_to_undo(spec, info, each, there=new in made.names)
    drop = convert.drop_statement(spec, each)
    if back:
        do(conn, spec, info, Change("convert", old, new, back), record=lambda: None)
    now = catalog.inspect(conn, spec.table)
    superseded = conversion.superseded(spec, each.column)
    kept = superseded in now.columns and _values(conn, spec, superseded)
    held = _on_new(conn, spec, now, made, each)
    drops = [drop] if superseded in now.columns and not kept and not held else []
    change = Change("convert", old, new, drops)
    do(conn, spec, info, change, record=_undone(conn, run, change))
    if not kept:
        return [_kept_for(spec, each, held)] if held else []
    return [
        f"{kept:,} rows of {spec.table} hold values in {new!r} that the run did not write, so the "
        f"column was not dropped: it is now {superseded!r}. Next step: find out what wrote them, "
        f"then SET lock_timeout = '{spec.lock_timeout_ms}ms'; {printable.sql(render(drop))};"
    ]


def _undone(conn: Connection, run: ledger.Run, change: Change) -> Callable[[], None]:
    return lambda: ledger.change_undone(conn, run.id, change.kind, old=change.old, new=change.new)


def _kept_for(spec: Spec, each: Conversion, held: list[Dependent]) -> str:
    listed = ", ".join(f"{d.kind} {d.object}" for d in held)
    return (
        f"Column {each.column.name!r} of {spec.table}, which the run made, is not dropped but "
        f"called {conversion.superseded(spec, each.column)!r}, because of what is on it: {listed}. "
        "Next step: see whether that is still needed, then drop the column."
    )


def _values(conn: Connection, spec: Spec, column: str) -> int:
    query = SQL("SELECT count({}) AS n FROM {}").format(name(column), table(spec.table))
    count: int = one(conn, query, ())["n"]
    return count
