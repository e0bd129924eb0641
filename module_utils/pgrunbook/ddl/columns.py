# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns get their right names and types. These are changes of the catalog, under a lock that is
waited for briefly."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from psycopg.sql import Composed

from .. import catalog, ledger
from ..catalog import TableInfo, conversion, surroundings
from ..core.connection import Connection
from ..core.locks import with_lock_retries
from ..core.spec import Spec
from ..core.sql import rename_column, render
from ..core.window import require_open_window
from . import convert, rename
from .schema_change import Schema, SchemaChange


@dataclass(frozen=True)
class Change:
    """A change of one column: its kind, "rename" or "convert", and the names before and after, as
    the ledger has them; and the statements that make it or take it back, in one transaction."""

    kind: str
    old: str
    new: str
    statements: Sequence[Composed]


def apply(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> SchemaChange:
    """Rename and convert what is pending; when dry, only tell what would be done."""
    info = catalog.inspect(conn, spec.table)
    changes = _pending(spec, info)
    queries = [render(statement) for change in changes for statement in change.statements]
    if changes and not dry:
        require_open_window(spec)
        plan = ledger.approved_plan(conn, run, "plan")
        ledger.require_statements(plan, run, queries)
        surroundings.require_unchanged(conn, spec, info, plan)
        for change in changes:
            do(conn, spec, info, change, record=_recorded(conn, run, change))
    renamed = {change.old: change.new for change in changes if change.kind == "rename"}
    after = (
        foreseen(conversion.foreseen(spec, info), renamed)
        if dry
        else catalog.inspect(conn, spec.table).schema()
    )
    return SchemaChange.of(spec.table, "columns", info, after, queries)


def do(
    conn: Connection, spec: Spec, info: TableInfo, change: Change, *, record: Callable[[], None]
) -> None:
    """Run the change's statements and record it, in one transaction."""

    def once() -> None:
        with conn.transaction():
            for statement in change.statements:
                conn.execute(statement, ())
            record()

    what = "; ".join(render(s) for s in change.statements)
    with_lock_retries(conn, once, table_oid=info.oid, what=what, tries=spec.lock_tries)


def foreseen(info: TableInfo, renamed: Mapping[str, str], dropped: Collection[str] = ()) -> Schema:
    """The schema that a dry run shows as the one afterwards."""
    schema = info.schema()
    columns = {
        renamed.get(column, column): type_
        for column, type_ in schema["columns"].items()
        if column not in dropped
    }
    return {**schema, "columns": dict(sorted(columns.items()))}


def _pending(spec: Spec, info: TableInfo) -> list[Change]:
    renames = ((column.renamed_from or "", column.name) for column in rename.pending(spec, info))
    return [
        *(
            Change("rename", old, new, [rename_column(spec.table, old, new)])
            for old, new in renames
        ),
        *(
            Change("convert", each.old, each.column.name, convert.statements(spec, each))
            for each in conversion.pending(spec, info)
        ),
    ]


def _recorded(conn: Connection, run: ledger.Run, change: Change) -> Callable[[], None]:
    return lambda: ledger.change_made(conn, run.id, change.kind, old=change.old, new=change.new)
