# SPDX-License-Identifier: GPL-3.0-or-later
"""Rename, build and take back indexes without ever blocking a writer for long."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from psycopg.sql import SQL, Composed

from . import catalog, conversion, ledger, surroundings
from .catalog import IndexInfo, TableInfo
from .connection import Connection, patient, with_lock_retries
from .errors import RunbookError
from .spec import Index, Spec, Table, require_open_window
from .sql import comma, name, rename_index, render, table

RENAME_LOCK = "SHARE UPDATE EXCLUSIVE on the index, for the catalog change only"
DROP_LOCK = "SHARE UPDATE EXCLUSIVE: reads and writes go on"
BUILD_LOCK = "SHARE UPDATE EXCLUSIVE: reads and writes go on, other DDL and VACUUM wait"


@dataclass(frozen=True)
class Action:
    """One thing to do to an index: kind is "rename", "drop_invalid", "defer" (drop it for the
    backfill, to be built again after it) or "build"."""

    kind: str
    index: Index
    old: str
    statement: Composed


def plan(spec: Spec, info: TableInfo, deferred: Collection[str] = ()) -> list[Action]:
    """What is to be done to the phase's indexes, in order of the indexes; those whose name is in
    deferred are dropped and built again.

    Raises RunbookError where an index of the wanted name has another definition.
    """
    after = conversion.foreseen(spec, info)
    return [action for index in spec.indexes for action in _plan_one(spec, index, after, deferred)]


def require_buildable(conn: Connection, spec: Spec, info: TableInfo) -> None:
    """Raise RunbookError where an index is on a column that the table will not have after the
    renames, or where something else in the schema bears its name."""
    gone = {c.renamed_from for c in spec.columns}
    after = conversion.foreseen(spec, info)
    columns = {*(c.name for c in spec.columns), *(c for c in after.columns if c not in gone)}
    for index in spec.indexes:
        for column in index.columns:
            if column not in columns:
                raise RunbookError(
                    f"Index {index.name!r} is to be on {column!r}, which {spec.table} does not "
                    "have after the rename. Next step: correct phase_indexes."
                )
        if index.name not in info.indexes:
            _require_free(conn, spec, index)
    if info.partitioned and any(action.kind == "build" for action in plan(spec, info)):
        missing = ", ".join(a.index.name for a in plan(spec, info) if a.kind == "build")
        raise RunbookError(
            f"{spec.table} is partitioned, and PostgreSQL cannot build {missing} on it without "
            "blocking writers. Next step: CREATE INDEX … ON ONLY the table, CREATE INDEX "
            "CONCURRENTLY on each partition, ALTER INDEX … ATTACH PARTITION, then run again."
        )


def afterwards(spec: Spec, info: TableInfo, gone: Collection[str] = ()) -> TableInfo:
    """The table as the run will leave it: columns under their right names, the phase's indexes
    there, those in gone not."""
    info = conversion.foreseen(spec, info)
    right = {c.renamed_from: c.name for c in spec.columns if c.renamed_from}
    replaced = {*gone, *(action.old for action in plan(spec, info))}
    present = {
        found: replace(index, columns=tuple(right.get(c, c) for c in index.columns))
        for found, index in info.indexes.items()
        if found not in replaced
    }
    wanted = {
        index.name: IndexInfo(index.columns, True, False, True, True, "") for index in spec.indexes
    }
    columns = {right.get(found, found): column for found, column in info.columns.items()}
    return replace(info, columns=columns, indexes={**present, **wanted})


def undo_statement(on: Table, action: Action) -> Composed:
    """The statement that takes an action back."""
    if action.kind == "rename":
        return rename_index(on, action.index.name, action.old)
    if action.kind == "defer":
        return _build(on, action.index)
    return _drop(on, action.index.name)


def apply(
    conn: Connection,
    spec: Spec,
    kinds: set[str],
    run: ledger.Run,
    *,
    deferred: Collection[str],
    dry: bool,
) -> dict[str, Any]:
    """Do the planned actions of these kinds; when dry, only tell what would be done.

    deferred has the names of the indexes to be dropped for the backfill, or when dry to be built
    after it as well.
    """
    info = catalog.inspect(conn, spec.table)
    planned = plan(spec, info, deferred if dry or "defer" in kinds else ())
    actions = [a for a in planned if a.kind in kinds]
    if actions and not dry:
        require_open_window(spec)
        approved = ledger.approved_plan(conn, run, "plan")
        ledger.require_statements(approved, run, [render(a.statement) for a in actions])
        if any(action.kind != "build" for action in actions):
            surroundings.require_unchanged(conn, spec, info, approved)
        for action in actions:
            _do(conn, spec, info, run, action)
    foreseen = {n: i.definition for n, i in info.indexes.items()}
    for action in actions:
        foreseen.pop(action.old, None)
        if action.kind in ("rename", "build"):
            foreseen[action.index.name] = _definition(spec.table, action.index)
    return _result(conn, spec, info, foreseen, [a.statement for a in actions], dry=dry)


def revert(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back what this run did to indexes: drop what it built, build what it dropped, and
    rename what it renamed."""
    info = catalog.inspect(conn, spec.table)
    foreseen = {n: i.definition for n, i in info.indexes.items()}
    statements = []
    for undo in _undos(conn, spec, info, run):
        foreseen.pop(undo.change["new"], None)
        if undo.statement:
            statements.append(undo.statement)
        if undo.definition:
            foreseen[undo.change["old"] or undo.change["new"]] = undo.definition
        if not dry:
            ledger.require_owner(conn, run)
            _undo(conn, spec, info, run, undo)
    return _result(conn, spec, info, foreseen, statements, dry=dry)


@dataclass(frozen=True)
class _Undo:
    """How to take a change of the ledger back: no statement where nothing has to be done, and the
    definition that is there afterwards, if one is."""

    change: dict[str, Any]
    statement: Composed | None
    definition: str
    left_over: bool = False


def _undos(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run) -> list[_Undo]:
    deferred = ledger.changes(conn, run.id, "index_defer")
    built = [
        change
        for kind in (ledger.INDEX_TRIAL, ledger.INDEX_KEPT, "index_build")
        for change in ledger.changes(conn, run.id, kind)
    ]
    renamed = ledger.changes(conn, run.id, "index_rename")
    dropped = {change["new"] for change in deferred}
    there = {n: i.definition for n, i in info.indexes.items() if i.valid}
    undos = [
        _Undo(c, _drop(spec.table, c["new"]), "")
        for c in built
        if c["new"] in info.indexes and c["new"] not in dropped
    ]
    undos += [_Undo(c, None, there[c["new"]]) for c in built if c["new"] in dropped & there.keys()]
    for change in deferred:
        (index,) = [i for i in spec.indexes if i.name == change["new"]]
        statement = None if index.name in there else _build(spec.table, index)
        definition = there.get(index.name, _definition(spec.table, index))
        undos.append(_Undo(change, statement, definition, index.name in info.indexes))
    for change in renamed:
        if change["new"] in info.indexes or change["new"] in dropped:
            new = next((u.definition for u in undos if u.change["new"] == change["new"]), "")
            definition = (new or there.get(change["new"], "")).replace(
                change["new"], change["old"], 1
            )
            query = rename_index(spec.table, change["new"], change["old"])
            undos.append(_Undo(change, query, definition))
    return undos


def _plan_one(spec: Spec, index: Index, info: TableInfo, deferred: Collection[str]) -> list[Action]:
    old = info.indexes.get(index.renamed_from or "")
    new = info.indexes.get(index.name)
    if new and not _same(spec, index, new) and new.valid:
        raise RunbookError(
            f"Index {index.name!r} of {spec.table} is there, but as: {new.definition}. The phase "
            f"wants it on ({', '.join(index.columns)}). Next step: rename or drop that index by "
            "hand, or correct phase_indexes."
        )
    build = Action("build", index, "", _build(spec.table, index))
    defer = Action("defer", index, index.name, _drop(spec.table, index.name))
    postponed = [defer, build] if index.name in deferred else []
    if new and new.valid:
        return postponed
    if new:
        return [Action("drop_invalid", index, index.name, _drop(spec.table, index.name)), build]
    old_name = index.renamed_from or ""
    if old and old.valid and _same(spec, index, old):
        rename = rename_index(spec.table, old_name, index.name)
        return [Action("rename", index, old_name, rename), *postponed]
    if old and not old.valid:
        return [Action("drop_invalid", index, old_name, _drop(spec.table, old_name)), build]
    return [build]


def _require_free(conn: Connection, spec: Spec, index: Index) -> None:
    row = conn.execute(
        "SELECT pg_describe_object('pg_class'::regclass, c.oid, 0) AS what,"
        " i.indrelid::regclass::text AS of"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_index i ON i.indexrelid = c.oid"
        " WHERE n.nspname = %s AND c.relname = %s",
        (spec.table.schema, index.name),
    ).fetchone()
    if row:
        of = f" of {row['of']}" if row["of"] else ""
        raise RunbookError(
            f"The name {index.name!r} is taken in schema {spec.table.schema} by {row['what']}{of}. "
            "Next step: give the index another name in phase_indexes."
        )


def _same(spec: Spec, index: Index, found: IndexInfo) -> bool:
    """Whether an index found is the one wanted, its columns under either of their names."""
    aliases = {c.renamed_from: c.name for c in spec.columns if c.renamed_from}
    return found.plain and tuple(aliases.get(c, c) for c in found.columns) == index.columns


def _do(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, action: Action) -> None:
    def rename() -> None:
        with conn.transaction():
            conn.execute(action.statement, ())
            ledger.change_made(conn, run.id, "index_rename", old=action.old, new=action.index.name)

    def build() -> None:
        ledger.change_made(conn, run.id, "index_build", old="", new=action.index.name)
        try:
            _patiently(conn, action.statement)
        except BaseException:
            if not conn.closed:
                left = catalog.inspect(conn, spec.table).indexes.get(action.index.name)
                if left and not left.valid:
                    _patiently(conn, _drop(spec.table, action.index.name))
                ledger.change_undone(conn, run.id, "index_build", old="", new=action.index.name)
            raise

    def drop() -> None:
        _patiently(conn, action.statement)

    def defer() -> None:
        ledger.change_made(conn, run.id, "index_defer", old="", new=action.index.name)
        _patiently(conn, action.statement)

    work = {"rename": rename, "build": build, "drop_invalid": drop, "defer": defer}[action.kind]
    with_lock_retries(
        conn,
        work,
        table_oid=info.oid,
        what=render(action.statement),
        tries=spec.lock_tries if action.kind == "rename" else 2,
    )


def _undo(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, undo: _Undo) -> None:
    kind, old, new = undo.change["kind"], undo.change["old"], undo.change["new"]

    def in_one_transaction() -> None:
        with conn.transaction():
            if undo.statement:
                conn.execute(undo.statement, ())
            ledger.change_undone(conn, run.id, kind, old=old, new=new)

    def concurrently() -> None:
        if kind == "index_defer" and undo.left_over:
            _patiently(conn, _drop(spec.table, new))
        if undo.statement:
            _patiently(conn, undo.statement)
        ledger.change_undone(conn, run.id, kind, old=old, new=new)

    waits = undo.statement and kind != "index_rename"
    with_lock_retries(
        conn,
        concurrently if waits else in_one_transaction,
        table_oid=info.oid,
        what=render(undo.statement) if undo.statement else new,
        tries=spec.lock_tries,
    )


def _patiently(conn: Connection, statement: Composed) -> None:
    with patient(conn) as other:
        other.execute(statement, ())


def _build(on: Table, index: Index) -> Composed:
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} ({})").format(
        name(index.name), table(on), comma(name(c) for c in index.columns)
    )


def _drop(on: Table, index: str) -> Composed:
    return SQL("DROP INDEX CONCURRENTLY {}").format(name(on.schema, index))


def _definition(on: Table, index: Index) -> str:
    """How a dry run shows an index that is not there yet, in the manner of pg_get_indexdef()."""
    columns = ", ".join(index.columns)
    return f"CREATE INDEX {index.name} ON {on} USING btree ({columns})"


def _result(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    foreseen: dict[str, str],
    statements: list[Composed],
    *,
    dry: bool,
) -> dict[str, Any]:
    after = (
        {**info.schema(), "indexes": dict(sorted(foreseen.items()))}
        if dry
        else catalog.inspect(conn, spec.table).schema()
    )
    queries = [render(s) for s in statements]
    return catalog.schema_change(spec.table, "indexes", info, after, queries)
