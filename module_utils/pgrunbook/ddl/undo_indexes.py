# SPDX-License-Identifier: GPL-3.0-or-later
"""Take back what a run did to indexes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from psycopg.sql import Composed

from .. import catalog, ledger
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.locks import run_patiently, with_lock_retries
from ..core.spec import Spec
from ..core.sql import rename_index, render
from . import index_parts, undo_index_parts
from .index_sql import create, drop, foreseen
from .indexes import BUILD_LOCK, changed
from .schema_change import SchemaChange
from .step import Step, alike


def revert(
    conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool, cleared: Collection[str] = ()
) -> SchemaChange:
    """Take back what this run did to indexes: drop what it built, build what it dropped, and
    rename what it renamed. cleared has those that will be gone by then, when dry."""
    info = catalog.inspect(conn, spec.table)
    info = replace(info, indexes={n: i for n, i in info.indexes.items() if n not in cleared})
    after = {n: i.definition for n, i in info.indexes.items()}
    statements = []
    for undo in _undos(conn, spec, info, run):
        after.pop(undo.change.new, None)
        if undo.statement:
            statements.append(render(undo.statement))
        if undo.definition:
            after[undo.change.old or undo.change.new] = undo.definition
        if not dry:
            ledger.require_owner(conn, run)
            _undo(conn, spec, info, run, undo)
    for left in undo_index_parts.leftovers(conn, run.id):
        statements += [render(s) for s in left.statements]
        if not dry:
            ledger.require_owner(conn, run)
            undo_index_parts.take_back(conn, run.id, left)
    return changed(conn, spec, info, after, statements, dry=dry)


def step(conn: Connection, info: TableInfo, run_id: str, change: SchemaChange) -> Step:
    """The step of a rollback's plan, from what revert() would do."""
    parts = undo_index_parts.alike(undo_index_parts.leftovers(conn, run_id))
    whole = [1] * (len(change.queries) - sum(parts))
    return Step(
        "index",
        "Take the indexes back",
        tuple(change.queries),
        undo=(),
        lock=index_parts.DROP_LOCK if info.partitioned else BUILD_LOCK,
        alike=alike([*whole, *parts]),
    )


@dataclass(frozen=True)
class _Undo:
    """How to take one change of the ledger back. statement is None where nothing has to be done;
    definition is that of the index afterwards, if there is one; left_over is whether an INVALID
    index of the name has to go first."""

    change: ledger.Change
    statement: Composed | None
    definition: str = ""
    left_over: bool = False


def _undos(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run) -> list[_Undo]:
    """How to take each change of the run back, in the order in which that is done."""
    deferred = ledger.list_changes(conn, run.id, "index_defer")
    dropped = {change.new for change in deferred}
    there = {n: i.definition for n, i in info.indexes.items() if i.valid}
    undos = [
        *_drops(conn, spec, info, run, dropped),
        *(_build(spec, info, change, there) for change in deferred),
    ]
    definitions = {**there, **{u.change.new: u.definition for u in undos if u.definition}}
    renamed = ledger.list_changes(conn, run.id, "index_rename")
    return [
        *undos,
        *(
            _rename(spec, change, definitions)
            for change in renamed
            if change.new in {*info.indexes, *dropped}
        ),
    ]


def _drops(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, dropped: Collection[str]
) -> list[_Undo]:
    """Drop the indexes that the run built. One that it had dropped for the backfill before it
    stays. Of one that is not there nothing is left but the record."""
    there = {n: i.definition for n, i in info.indexes.items() if i.valid}
    built = [
        change
        for kind in (ledger.INDEX_TRIAL, ledger.INDEX_KEPT, "index_build")
        for change in ledger.list_changes(conn, run.id, kind)
    ]
    gone = [c for c in built if c.new in info.indexes and c.new not in dropped]
    kept = [c for c in built if c.new in dropped and c.new in there]
    concurrently = not info.partitioned
    return [
        *(_Undo(c, drop(spec.table, c.new, concurrently=concurrently)) for c in gone),
        *(_Undo(c, None, there[c.new]) for c in kept),
        *(_Undo(c, None) for c in built if c.new not in info.indexes),
    ]


def _build(spec: Spec, info: TableInfo, change: ledger.Change, there: Mapping[str, str]) -> _Undo:
    """An index that the run dropped is built again, unless it is there and valid."""
    (index,) = [i for i in spec.indexes if i.name == change.new]
    if index.name in there:
        return _Undo(change, None, there[index.name])
    definition = foreseen(spec.table, info, index)
    return _Undo(change, create(spec.table, index), definition, index.name in info.indexes)


def _rename(spec: Spec, change: ledger.Change, definitions: Mapping[str, str]) -> _Undo:
    old, new = change.old, change.new
    definition = definitions.get(new, "").replace(new, old, 1)
    return _Undo(change, rename_index(spec.table, new, old), definition)


def _undo(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, undo: _Undo) -> None:
    kind, old, new = undo.change.kind, undo.change.old, undo.change.new

    def in_one_transaction() -> None:
        with conn.transaction():
            if undo.statement:
                conn.execute(undo.statement, ())
            if info.partitioned:
                undo_index_parts.undone(conn, run.id)
            ledger.change_undone(conn, run.id, kind, old=old, new=new)

    def concurrently() -> None:
        if kind == "index_defer" and undo.left_over:
            run_patiently(conn, drop(spec.table, new))
        if undo.statement:
            run_patiently(conn, undo.statement)
        ledger.change_undone(conn, run.id, kind, old=old, new=new)

    waits = undo.statement and kind != "index_rename" and not info.partitioned
    with_lock_retries(
        conn,
        concurrently if waits else in_one_transaction,
        table_oid=info.oid,
        what=render(undo.statement) if undo.statement else new,
        tries=spec.lock_tries,
    )
