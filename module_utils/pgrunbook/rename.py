# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns get their right names and types, and that is taken back: changes of the catalog, under a
lock that is waited for briefly."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composed

from . import catalog, conversion, ledger, revert_checks, surroundings
from .catalog import TableInfo
from .connection import Connection, one, with_lock_retries
from .dependents import dependents
from .errors import require_none
from .spec import Column, Spec, require_open_window
from .sql import name, rename_column, render, table

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


def require_safe(conn: Connection, spec: Spec, info: TableInfo) -> list[dict[str, Any]]:
    """The dependents of the columns to be renamed or converted, each with the column's old name.

    Raises RunbookError with those that do not go along and are not acknowledged: they hold the name
    as text, such as a function with a string body, or are on a column that is put aside.
    """
    renamed = [
        {"column": old, **dependent}
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
        {"column": each.old, **_left_behind(dependent)}
        for each in conversion.pending(spec, info)
        for dependent in dependents(conn, info.oid, each.old)
        if dependent["kind"] != "index"
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

    A column that a conversion made is dropped only if it is empty by then. Else it stays, under
    another name, and a warning says so.
    """
    info = catalog.inspect(conn, spec.table)
    made = ledger.changes(conn, run.id, "rename")
    names = revert_checks.present_columns(conn, spec, info, run.id) if made else {}
    renames = [c for c in made if names.get(c["new"]) == c["new"]]
    conversions = [
        conversion.made(spec, info, change["new"], change["old"])
        for change in ledger.changes(conn, run.id, "convert")
    ]
    undone = [
        _Change("rename", c["new"], c["old"], [rename_column(spec.table, c["new"], c["old"])])
        for c in renames
    ]
    statements = [
        *(s for each in conversions for s in conversion.undo_statements(spec, each)),
        *(s for change in undone for s in change.statements),
    ]
    warnings: list[str] = []
    if not dry:
        for each in conversions:
            ledger.require_owner(conn, run)
            warnings += _convert_back(conn, spec, info, run, each)
        for change in undone:
            ledger.require_owner(conn, run)
            _do(conn, spec, info, change, _noted_undone(conn, run, change))
        for left in (c for c in made if c not in renames):
            ledger.change_left(conn, run.id, "rename", old=left["old"], new=left["new"])
    swapped = {c.old: c.new for c in undone}
    swapped |= {each.aside: each.old for each in conversions}
    gone = {each.column.name for each in conversions if each.aside in info.columns}
    result = _result(conn, spec, info, _foreseen(info, swapped, gone), statements, dry=dry)
    return {**result, "warnings": warnings}


def _not_acknowledged(spec: Spec, found: list[dict[str, Any]], refusal: str) -> list[str]:
    left = [d for d in found if not d["follows"] and d["object"] not in spec.acknowledged]
    if not left:
        return []
    named = ", ".join(f"{d['kind']} {d['object']}" for d in left)
    return [refusal.format(named, ", ".join(dict.fromkeys(d["object"] for d in left)))]


def _left_behind(dependent: dict[str, Any]) -> dict[str, Any]:
    """A dependent of a column that is put aside, where it stays unless it is text."""
    if not dependent["follows"]:
        return dependent
    stays = "stays on the column that is put aside, which nobody fills any more"
    return {**dependent, "follows": False, "note": stays}


def _rename(spec: Spec, column: Column) -> _Change:
    old = column.renamed_from or ""
    return _Change("rename", old, column.name, [rename_column(spec.table, old, column.name)])


def _convert(spec: Spec, each: conversion.Conversion) -> _Change:
    return _Change("convert", each.old, each.column.name, conversion.statements(spec, each))


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
) -> list[str]:
    """Take a conversion back, also where that was begun before; a warning where the new column
    stays. Nobody writes to it any more once it bears another name, so whether it is empty can be
    found out without a lock."""
    *back, drop = conversion.undo_statements(spec, each)
    new, old = each.column.name, each.old
    if each.aside in info.columns:
        _do(conn, spec, info, _Change("convert", new, old, back), lambda: None)
    there = catalog.inspect(conn, spec.table).columns
    superseded = conversion.superseded(spec, each.column)
    kept = superseded in there and _values(conn, spec, superseded)
    drops = [drop] if superseded in there and not kept else []
    change = _Change("convert", new, old, drops)
    _do(conn, spec, info, change, _noted_undone(conn, run, change))
    if not kept:
        return []
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
    return catalog.schema_change(spec.table, "columns", info, after, queries)


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
