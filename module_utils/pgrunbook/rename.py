# SPDX-License-Identifier: GPL-3.0-or-later
"""Rename columns, and take that back: metadata only, under a lock that is waited for briefly."""

from __future__ import annotations

from typing import Any

from psycopg.sql import SQL, Composed

from . import catalog, ledger
from .catalog import TableInfo
from .connection import Connection, with_lock_retries
from .dependents import dependents
from .errors import RunbookError
from .spec import Column, Spec, Table, require_open_window
from .sql import name, render, table

LOCK = "ACCESS EXCLUSIVE, for the catalog change only: milliseconds once it is granted"


def statement(on: Table, old: str, new: str) -> Composed:
    """The ALTER TABLE … RENAME COLUMN that turns old into new."""
    return SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table(on), name(old), name(new))


def pending(spec: Spec, info: TableInfo) -> list[Column]:
    """The columns that still bear their old name. Raises RunbookError where both or neither do."""
    names = catalog.present_names(spec, info)
    return [c for c in spec.columns if c.renamed_from and names[c.name] == c.renamed_from]


def require_safe(conn: Connection, spec: Spec, info: TableInfo) -> list[dict[str, Any]]:
    """The dependents of the columns to be renamed, each with the column's old name.

    Raises RunbookError when one that holds the name as text, such as a function with a string
    body, would break and is not acknowledged.
    """
    found = [
        {"column": old, **dependent}
        for old in (column.renamed_from or "" for column in pending(spec, info))
        for dependent in dependents(conn, info.oid, old)
    ]
    breaking = [d for d in found if not d["follows"] and d["object"] not in spec.acknowledged]
    if breaking:
        named = ", ".join(f"{d['kind']} {d['object']}" for d in breaking)
        listed = ", ".join(dict.fromkeys(d["object"] for d in breaking))
        raise RunbookError(
            f"A rename would break {named}: the old column name is there as text, and PostgreSQL "
            "does not change it. (A comment, or a column of that name in another table, cannot be "
            "told from it.) Next step: prepare the new text for after the rename, then list "
            f"{listed} in phase_acknowledged."
        )
    return found


def apply(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Rename what is pending; when dry, only tell what would be done."""
    info = catalog.inspect(conn, spec.table)
    moves = [(c.renamed_from or "", c.name) for c in pending(spec, info)]
    statements = [statement(spec.table, old, new) for old, new in moves]
    if moves and not dry:
        require_open_window(spec)
        ledger.require_approval(conn, run, "plan", [render(s) for s in statements])
        for (old, new), query in zip(moves, statements, strict=True):
            _rename(conn, spec, info, run, old, new, query, undo=False)
    return _result(conn, spec, info, moves, statements, dry=dry)


def revert(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back the renames that this run made, the latest first."""
    info = catalog.inspect(conn, spec.table)
    made = ledger.changes(conn, run.id, "rename")
    moves = [(change["new"], change["old"]) for change in made if change["new"] in info.columns]
    statements = [statement(spec.table, old, new) for old, new in moves]
    if moves and not dry:
        ledger.require_owner(conn, run)
        for (old, new), query in zip(moves, statements, strict=True):
            _rename(conn, spec, info, run, old, new, query, undo=True)
    return _result(conn, spec, info, moves, statements, dry=dry)


def _rename(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    old: str,
    new: str,
    query: Composed,
    *,
    undo: bool,
) -> None:
    def once() -> None:
        with conn.transaction():
            conn.execute(query, ())
            if undo:
                ledger.change_undone(conn, run.id, "rename", old=new, new=old)
            else:
                ledger.change_made(conn, run.id, "rename", old=old, new=new)

    with_lock_retries(conn, once, table_oid=info.oid, what=render(query), tries=spec.lock_tries)


def _result(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    moves: list[tuple[str, str]],
    statements: list[Composed],
    *,
    dry: bool,
) -> dict[str, Any]:
    after = _foreseen(info, dict(moves)) if dry else catalog.inspect(conn, spec.table).schema()
    queries = [render(s) for s in statements]
    return catalog.schema_change(spec.table, "columns", info, after, queries)


def _foreseen(info: TableInfo, renamed: dict[str, str]) -> dict[str, Any]:
    """The schema that a dry run shows as the one afterwards."""
    schema = info.schema()
    columns = {renamed.get(name, name): type_ for name, type_ in schema["columns"].items()}
    return {**schema, "columns": dict(sorted(columns.items()))}
