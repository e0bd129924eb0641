# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop indexes before a rollback gives rows back, which is twice as fast without them.

They are those on the filled columns that the run built, which go anyway, and those that it had
dropped for the backfill, which undo_indexes.revert() builds again: what the ledger has of them
stays, so it does not matter where a rollback is broken off.
"""

from __future__ import annotations

from collections.abc import Collection

from psycopg.sql import Composed

from .. import catalog, ledger
from ..catalog import TableInfo, surroundings
from ..core.connection import Connection
from ..core.locks import run_patiently, with_lock_retries
from ..core.spec import Spec
from ..core.sql import render
from ..ledger.filled import present_columns
from .index_sql import drop, foreseen
from .indexes import DROP_LOCK, changed
from .schema_change import SchemaChange
from .step import Step

ID = "index_clear"
BUILT = ("index_build", ledger.INDEX_TRIAL, ledger.INDEX_KEPT)


def in_the_way(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, columns: Collection[str]
) -> list[str]:
    """The indexes on these columns, by name, if all of them may be dropped: with one that stays an
    UPDATE could not be heap-only. None on a partitioned table, where dropping one would block
    everybody."""
    if info.partitioned:
        return []
    found = catalog.indexes_on(conn, info, columns)
    deferred = {c.new for c in ledger.list_changes(conn, run_id, "index_defer")}
    goes = {c.new for kind in BUILT for c in ledger.list_changes(conn, run_id, kind)} - deferred
    comes_back = {n for n in deferred if _can_be_built(spec, info, n)}
    return found if {*found} <= goes | comes_back else []


def _can_be_built(spec: Spec, info: TableInfo, index_name: str) -> bool:
    """Whether an index is there just as the phase would build it again."""
    there = info.indexes.get(index_name)
    wanted = [index for index in spec.indexes if index.name == index_name]
    if there is None or not there.replaceable or not wanted:
        return False
    return foreseen(spec.table, info, wanted[0]) == there.definition


def step(spec: Spec, names: Collection[str]) -> Step:
    """The step of a rollback's plan that drops these indexes."""
    return Step(
        ID,
        "Drop indexes, so that rows are given back faster",
        tuple(render(drop(spec.table, name)) for name in names),
        undo=(),
        lock=DROP_LOCK,
    )


def clear(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> SchemaChange:
    """Drop the indexes that the rollback's plan names, as far as they are there and all of them may
    still be dropped; when dry, nothing is dropped or told. Raises RunbookError without an approval,
    and where the rows could not be given back, because of what was made since."""
    info = catalog.inspect(conn, spec.table)
    after = {n: i.definition for n, i in info.indexes.items()}
    if dry:
        return changed(conn, spec, info, after, [], dry=True)
    plan = ledger.approved_plan(conn, run, "rollback")
    surroundings.require_unchanged(conn, spec, info, plan)
    approved = {s for each in plan["steps"] if each["id"] == ID for s in each["statements"]}
    columns = present_columns(conn, spec, info, run.id).values()
    names = in_the_way(conn, spec, info, run.id, columns)
    drops = {n: s for n in names if render(s := drop(spec.table, n)) in approved}
    for name, statement in drops.items():
        _clear(conn, spec, info, run, name, statement)
    return changed(conn, spec, info, after, [render(s) for s in drops.values()], dry=False)


def _clear(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, name: str, statement: Composed
) -> None:
    ledger.require_owner(conn, run)
    ledger.event(conn, run.id, ID, new=name)
    with_lock_retries(
        conn,
        lambda: run_patiently(conn, statement),
        table_oid=info.oid,
        what=render(statement),
        tries=spec.lock_tries,
    )
