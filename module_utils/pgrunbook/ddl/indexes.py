# SPDX-License-Identifier: GPL-3.0-or-later
"""Rename, drop and build the phase's indexes without ever blocking a writer for long."""

from __future__ import annotations

from collections.abc import Collection

from .. import catalog, ledger
from ..catalog import TableInfo, surroundings
from ..core.connection import Connection
from ..core.errors import unanswered
from ..core.locks import run_patiently, with_lock_retries
from ..core.spec import Spec
from ..core.sql import render
from ..core.window import require_open_window
from . import index_parts
from .index_plan import Action, plan
from .index_sql import drop, foreseen
from .schema_change import SchemaChange
from .step import Step, alike

RENAME_LOCK = "SHARE UPDATE EXCLUSIVE on the index, for the catalog change only"
DROP_LOCK = "SHARE UPDATE EXCLUSIVE: reads and writes go on"
BUILD_LOCK = "SHARE UPDATE EXCLUSIVE: reads and writes go on, other DDL and VACUUM wait"


def steps_before(actions: Collection[Action]) -> list[Step]:
    """The steps of a plan's actions that come before the backfill."""
    renamed = [action for action in actions if action.kind == "rename"]
    dropped = [action for action in actions if action.kind in ("drop_invalid", "defer")]
    return [
        _step("index_rename", "Rename the index", renamed, RENAME_LOCK),
        _step("index_defer", "Drop indexes for the backfill", dropped, DROP_LOCK),
    ]


def step_after(actions: Collection[Action], info: TableInfo) -> Step:
    """The step of a plan's actions that comes after the backfill."""
    lock = index_parts.LOCK if info.partitioned else BUILD_LOCK
    built = [action for action in actions if action.kind == "build"]
    return _step("index_build", "Build the indexes", built, lock)


def _step(id: str, title: str, actions: Collection[Action], lock: str) -> Step:
    undo = []
    for action in actions:
        whole = ";\n".join(render(statement) for statement in action.undo)
        undo += [whole, *[""] * (len(action.statements) - 1)]
    return Step(
        id,
        title,
        statements=tuple(query for action in actions for query in action.queries),
        undo=tuple(undo),
        lock=lock,
        needed=bool(actions),
        alike=alike(n for a in actions for n in index_parts.alike(a.parts) or [1]),
    )


def apply(
    conn: Connection,
    spec: Spec,
    kinds: Collection[str],
    run: ledger.Run,
    *,
    deferred: Collection[str],
    dry: bool,
) -> SchemaChange:
    """Do the planned actions of these kinds; when dry, only tell what would be done.

    deferred has the names of the indexes to be dropped for the backfill, or when dry to be built
    after it as well.
    """
    info = catalog.inspect(conn, spec.table)
    planned = plan(conn, spec, info, deferred if dry or "defer" in kinds else ())
    actions = [action for action in planned if action.kind in kinds]
    if actions and not dry:
        require_open_window(spec)
        approved = ledger.approved_plan(conn, run, "plan")
        ledger.require_statements(approved, run, [q for a in actions for q in a.queries])
        if any(action.kind != "build" for action in actions):
            surroundings.require_unchanged(conn, spec, info, approved)
        for action in actions:
            if action.parts:
                index_parts.build(conn, spec, info, run, action.index, list(action.parts))
            else:
                _do(conn, spec, info, run, action)
    after = {n: i.definition for n, i in info.indexes.items()}
    for action in actions:
        after.pop(action.old, None)
        if action.kind in ("rename", "build"):
            after[action.index.name] = foreseen(spec.table, info, action.index)
    return changed(conn, spec, info, after, [q for a in actions for q in a.queries], dry=dry)


def changed(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    after: dict[str, str],
    queries: list[str],
    *,
    dry: bool,
) -> SchemaChange:
    """What was done to indexes. after has their definitions as a dry run foresees them."""
    schema = (
        {**info.schema(), "indexes": dict(sorted(after.items()))}
        if dry
        else catalog.inspect(conn, spec.table).schema()
    )
    return SchemaChange.of(spec.table, "indexes", info, schema, queries)


def _do(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, action: Action) -> None:
    (statement,) = action.statements

    def rename() -> None:
        with conn.transaction():
            conn.execute(statement, ())
            ledger.change_made(conn, run.id, "index_rename", old=action.old, new=action.index.name)

    def build() -> None:
        if _is_broken(conn, info, run, action.index.name):
            _clear(conn, spec, run, action.index.name)
            if action.index.name in catalog.inspect(conn, spec.table).indexes:
                return
        ledger.change_made(conn, run.id, "index_build", old="", new=action.index.name)
        try:
            run_patiently(conn, statement)
        except BaseException as error:
            if not conn.closed and not unanswered(error):
                _clear(conn, spec, run, action.index.name)
            raise

    def drop_invalid() -> None:
        run_patiently(conn, statement)

    def defer() -> None:
        ledger.change_made(conn, run.id, "index_defer", old="", new=action.index.name)
        run_patiently(conn, statement)

    work = {"rename": rename, "build": build, "drop_invalid": drop_invalid, "defer": defer}
    with_lock_retries(
        conn,
        work[action.kind],
        table_oid=info.oid,
        what=render(statement),
        tries=spec.lock_tries if action.kind == "rename" else 2,
    )


def _is_broken(conn: Connection, info: TableInfo, run: ledger.Run, index: str) -> bool:
    """Whether there is an INVALID index that this run began to build: on a server that is gone, or
    in a session that is."""
    left = info.indexes.get(index)
    if left is None or left.valid:
        return False
    return any(change.new == index for change in ledger.list_changes(conn, run.id, "index_build"))


def _clear(conn: Connection, spec: Spec, run: ledger.Run, index: str) -> None:
    """Drop what a failed build has left, and record that there is nothing of it. An index that is
    valid all the same stays a change of the run."""
    left = catalog.inspect(conn, spec.table).indexes.get(index)
    if left and left.valid:
        return
    if left:
        run_patiently(conn, drop(spec.table, index))
    ledger.change_undone(conn, run.id, "index_build", old="", new=index)
