# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns get their right names and types, and that is taken back: changes of the catalog, under a
lock that is waited for briefly."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from psycopg.sql import SQL, Composed

from .. import catalog, ledger
from ..catalog import TableInfo, conversion, surroundings
from ..catalog.dependents import Dependent, dependents
from ..core.connection import Connection, one
from ..core.errors import require_none
from ..core.locks import with_lock_retries
from ..core.printable import yaml
from ..core.spec import Column, Spec
from ..core.sql import name, rename_column, render, table
from ..core.window import require_open_window
from ..ledger import filled
from . import convert, outcome

LOCK = "ACCESS EXCLUSIVE, for the catalog change only: milliseconds once it is granted"


@dataclass(frozen=True)
class _Change:
    """What is done to one column, in one transaction: kind is "rename" or "convert", as the ledger
    has it, old and new the names before and after."""

    kind: str
    old: str
    new: str
    statements: list[Composed]


def pending(spec: Spec, info: TableInfo) -> list[Column]:
    """The columns that only have to be renamed. Raises RunbookError where a column is there under
    both names or under neither."""
    names = catalog.present_names(spec, info)
    converted = {each.column.name for each in conversion.pending(spec, info)}
    return [
        c
        for c in spec.columns
        if c.renamed_from and names[c.name] == c.renamed_from and c.name not in converted
    ]


def require_safe(conn: Connection, spec: Spec, info: TableInfo) -> list[Dependent]:
    """The dependents of the columns to be renamed or converted.

    Raises RunbookError with those that do not go along and are not acknowledged: they hold the name
    as text, such as a function with a string body, or are on a column that is put aside.
    """
    renamed = [
        dependent
        for old in (column.renamed_from or "" for column in pending(spec, info))
        for dependent in dependents(conn, info.oid, old)
    ]
    obstacles = _not_acknowledged(
        spec,
        renamed,
        "A rename would break {}: the old column name is there as text, and PostgreSQL does not "
        "change it. (A comment, or a column of that name in another table, cannot be told from "
        "it.) Next step: prepare the new text for after the rename, then list {} in "
        "phase_acknowledged.",
    )
    converted = [
        _left_behind(dependent)
        for each in conversion.pending(spec, info)
        for dependent in dependents(conn, info.oid, each.old)
        if dependent.kind != "index"
    ]
    obstacles += _not_acknowledged(
        spec,
        converted,
        "A conversion would leave {} behind, on the column that is put aside. Next step: prepare "
        "what changes it to the new column, for right after the conversion, then list {} in "
        "phase_acknowledged.",
    )
    require_none(obstacles)
    return [*renamed, *converted]


def apply(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Rename and convert what is pending; when dry, only tell what would be done."""
    info = catalog.inspect(conn, spec.table)
    changes = [
        *(_rename(spec, c) for c in pending(spec, info)),
        *(_convert(spec, each) for each in conversion.pending(spec, info)),
    ]
    statements = [statement for change in changes for statement in change.statements]
    if changes and not dry:
        require_open_window(spec)
        plan = ledger.approved_plan(conn, run, "plan")
        ledger.require_statements(plan, run, [render(s) for s in statements])
        surroundings.require_unchanged(conn, spec, info, plan)
        for change in changes:
            _do(conn, spec, info, change, _noted(conn, run, change))
    renamed = {c.old: c.new for c in changes if c.kind == "rename"}
    after = _foreseen(conversion.foreseen(spec, info), renamed)
    return _result(conn, spec, info, after, statements, dry=dry)


def revert(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back what this run did to columns, the latest first.

    A column that a conversion made is dropped only if it is empty by then, and nothing depends on
    it. Else it stays, under another name, and a warning says so; when dry, so far as that is known.
    """
    info = catalog.inspect(conn, spec.table)
    found = _made(conn, spec, info, run)
    conversions, undone = found.conversions, [_back(spec, c) for c in found.renames]
    statements = [
        *(s for each in conversions for s in _undo(conn, spec, info, run, each, found.names)),
        *(s for change in undone for s in change.statements),
    ]
    on = [(each, _on_new(conn, spec, info, run, each, found.names)) for each in conversions]
    warnings = [_kept_for(spec, each, what) for each, what in on if what]
    if not dry:
        warnings = []
        for each in conversions:
            ledger.require_owner(conn, run)
            warnings += _convert_back(conn, spec, info, run, each, found.names)
        for change in undone:
            ledger.require_owner(conn, run)
            _do(conn, spec, info, change, _noted_undone(conn, run, change))
        for left in found.left:
            ledger.change_left(conn, run.id, "rename", old=left["old"], new=left["new"])
    swapped = {c.old: c.new for c in undone}
    swapped |= {each.aside: each.old for each in conversions}
    swapped |= {c.column.name: conversion.superseded(spec, c.column) for c, what in on if what}
    gone = {c.column.name for c, what in on if c.aside in info.columns and not what}
    result = _result(conn, spec, info, _foreseen(info, swapped, gone), statements, dry=dry)
    return {**result, "warnings": warnings}


def require_revertible(conn: Connection, spec: Spec, run: ledger.Run) -> None:
    """Raise RunbookError with what would stop revert(): names that were taken since, and what on a
    column that a conversion made would show another one afterwards."""
    info = catalog.inspect(conn, spec.table)
    found = _made(conn, spec, info, run)
    taken = [c["old"] for c in found.renames if c["old"] in info.columns]
    for each in found.conversions:
        if each.aside in info.columns:
            ours = {each.column.name} if each.column.name in found.names else set()
            wanted = [each.old, *([conversion.superseded(spec, each.column)] if ours else [])]
            taken += [n for n in wanted if n in info.columns and n not in ours]
    require_none(
        [
            *(
                f"Column {column!r} of {spec.table} was made since, and the rollback needs the "
                "name for the column that had it before. Nothing was changed. Next step: rename or "
                "drop it, then plan the rollback again."
                for column in taken
            ),
            *(
                f"{dependent.kind.capitalize()} {dependent.object} is on column "
                f"{each.column.name!r} of {spec.table}, which the rollback puts aside for the one "
                "that had its name before. Nothing was changed. Next step: drop it, or let it do "
                "without the column, then plan the rollback again."
                for each in found.conversions
                for dependent in _on_new(conn, spec, info, run, each, found.names)
                if dependent.kind not in _KEEPS
            ),
        ]
    )


_KEEPS = ("index", "constraint", "statistics object", "column default")
"""What may stay on a column that is put aside, and still is what it was."""


@dataclass(frozen=True)
class _Made:
    """What a run did to columns and still stands: renames as the ledger has them, those of them
    whose column is not there any more, conversions, and the columns by their present names."""

    renames: list[dict[str, Any]]
    left: list[dict[str, Any]]
    conversions: list[conversion.Conversion]
    names: dict[str, str]


def _made(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run) -> _Made:
    renamed = ledger.list_changes(conn, run.id, "rename")
    conversions = [
        conversion.made(spec, info, change["new"], change["old"])
        for change in ledger.list_changes(conn, run.id, "convert")
    ]
    names = {}
    if renamed or conversions:
        names = filled.present_columns(conn, spec, info, run.id)
    stands = [c for c in renamed if names.get(c["new"]) == c["new"]]
    return _Made(stands, [c for c in renamed if c not in stands], conversions, names)


def _back(spec: Spec, c: dict[str, Any]) -> _Change:
    return _Change("rename", c["new"], c["old"], [rename_column(spec.table, c["new"], c["old"])])


def _undo(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    each: conversion.Conversion,
    names: Collection[str],
) -> list[Composed]:
    """The statements that take a conversion back, so far as there is something to do."""
    there = each.column.name in names
    back = convert.left_to_undo(spec, info, each, there=there)
    dropped = there if back else conversion.superseded(spec, each.column) in info.columns
    keeps = not dropped or _on_new(conn, spec, info, run, each, names)
    return [*back, *([] if keeps else convert.undo_statements(spec, each)[-1:])]


def _on_new(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    each: conversion.Conversion,
    names: Collection[str],
) -> list[Dependent]:
    """What depends on the column that a conversion made, whatever it is called by now, apart from
    the indexes that the rollback takes back before it."""
    swapped = each.aside not in info.columns
    column = conversion.superseded(spec, each.column) if swapped else each.column.name
    if column not in (info.columns if swapped else names):
        return []
    kinds = ("index_build", ledger.INDEX_TRIAL, ledger.INDEX_KEPT)
    own = {change["new"] for kind in kinds for change in ledger.list_changes(conn, run.id, kind)}
    named = conn.execute(
        "SELECT format('%%I.%%I', %s::text, n) AS of FROM unnest(%s::text[]) n",
        (spec.table.schema, sorted(own)),
    )
    ours = {row["of"] for row in named}
    return [
        d
        for d in dependents(conn, info.oid, column)
        if d.follows and d.kind != "publication" and d.object not in ours
    ]


def _kept_for(spec: Spec, each: conversion.Conversion, on: list[Dependent]) -> str:
    listed = ", ".join(f"{d.kind} {d.object}" for d in on)
    return (
        f"Column {each.column.name!r} of {spec.table}, which the run made, is not dropped but "
        f"called {conversion.superseded(spec, each.column)!r}, because of what is on it: {listed}. "
        "Next step: see whether that is still needed, then drop the column."
    )


def _not_acknowledged(spec: Spec, found: list[Dependent], refusal: str) -> list[str]:
    left = [d for d in found if not d.follows and d.object not in spec.acknowledged]
    if not left:
        return []
    named = ", ".join(f"{d.kind} {d.object}" for d in left)
    listed = ", ".join(dict.fromkeys(yaml(d.object) for d in left))
    return [refusal.format(named, listed)]


def _left_behind(dependent: Dependent) -> Dependent:
    """A dependent of a column that is put aside, where it stays unless it is text."""
    if not dependent.follows:
        return dependent
    stays = "stays on the column that is put aside, which nobody fills any more"
    return replace(dependent, follows=False, note=stays)


def _rename(spec: Spec, column: Column) -> _Change:
    old = column.renamed_from or ""
    return _Change("rename", old, column.name, [rename_column(spec.table, old, column.name)])


def _convert(spec: Spec, each: conversion.Conversion) -> _Change:
    return _Change("convert", each.old, each.column.name, convert.statements(spec, each))


def _noted(conn: Connection, run: ledger.Run, change: _Change) -> Callable[[], None]:
    return lambda: ledger.change_made(conn, run.id, change.kind, old=change.old, new=change.new)


def _noted_undone(conn: Connection, run: ledger.Run, change: _Change) -> Callable[[], None]:
    return lambda: ledger.change_undone(conn, run.id, change.kind, old=change.new, new=change.old)


def _do(
    conn: Connection, spec: Spec, info: TableInfo, change: _Change, note: Callable[[], None]
) -> None:
    """Run the change's statements, and note it, in one transaction."""

    def once() -> None:
        with conn.transaction():
            for statement in change.statements:
                conn.execute(statement, ())
            note()

    what = "; ".join(render(s) for s in change.statements)
    with_lock_retries(conn, once, table_oid=info.oid, what=what, tries=spec.lock_tries)


def _convert_back(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    each: conversion.Conversion,
    names: Collection[str],
) -> list[str]:
    """Take a conversion back, also where that was begun before; a warning where the new column
    stays. Nobody writes to it any more once it bears another name, so whether it is empty can be
    found out without a lock."""
    new, old = each.column.name, each.old
    back = convert.left_to_undo(spec, info, each, there=new in names)
    drop = convert.undo_statements(spec, each)[-1]
    if back:
        _do(conn, spec, info, _Change("convert", new, old, back), lambda: None)
    now = catalog.inspect(conn, spec.table)
    superseded = conversion.superseded(spec, each.column)
    kept = superseded in now.columns and _values(conn, spec, superseded)
    on = _on_new(conn, spec, now, run, each, names)
    drops = [drop] if superseded in now.columns and not kept and not on else []
    change = _Change("convert", new, old, drops)
    _do(conn, spec, info, change, _noted_undone(conn, run, change))
    if not kept:
        return [_kept_for(spec, each, on)] if on else []
    return [
        f"{kept:,} rows of {spec.table} hold values in {new!r} that the run did not write, so the "
        f"column was not dropped: it is now {superseded!r}. Next step: find out what wrote them, "
        f"then {render(drop)}"
    ]


def _values(conn: Connection, spec: Spec, column: str) -> int:
    query = SQL("SELECT count({}) AS n FROM {}").format(name(column), table(spec.table))
    count: int = one(conn, query, ())["n"]
    return count


def _result(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    foreseen: dict[str, Any],
    statements: list[Composed],
    *,
    dry: bool,
) -> dict[str, Any]:
    after = foreseen if dry else catalog.inspect(conn, spec.table).schema()
    queries = [render(s) for s in statements]
    return outcome.schema_change(spec.table, "columns", info, after, queries)


def _foreseen(
    info: TableInfo, renamed: dict[str, str], dropped: Collection[str] = ()
) -> dict[str, Any]:
    """The schema that a dry run shows as the one afterwards."""
    schema = info.schema()
    columns = {
        renamed.get(column, column): type_
        for column, type_ in schema["columns"].items()
        if column not in dropped
    }
    return {**schema, "columns": dict(sorted(columns.items()))}
