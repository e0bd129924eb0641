# SPDX-License-Identifier: GPL-3.0-or-later
"""Which table and which columns a run filled: what its journal is about, whatever bears their names
by now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Spec
from .runs import get_run


def note(
    conn: Connection, run_id: str, table_oid: int, columns: Mapping[str, int]
) -> dict[str, Any]:
    """Record which table, by its oid, and which columns, by their numbers, a run fills, unless it
    has filled some already. Returns what is recorded."""
    row = one(
        conn,
        "UPDATE pgrunbook.run r SET filled = CASE WHEN filled IS NULL OR NOT EXISTS ("
        " SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id AND b.reverted_at IS NULL)"
        " THEN %s ELSE filled END WHERE id = %s RETURNING filled",
        (Jsonb({"table": table_oid, "columns": columns}), run_id),
    )
    recorded: dict[str, Any] = row["filled"]
    return recorded


def recorded(conn: Connection, run_id: str) -> dict[str, Any] | None:
    """What note_filled() recorded: table and columns. None where nothing was, or by an earlier
    version."""
    found: dict[str, Any] | None = get_run(conn, run_id).get("filled")
    return found


def require_the_filled(conn: Connection, spec: Spec, info: TableInfo, run_id: str) -> None:
    """Record which table and columns the run fills, before it fills them. Raises RunbookError where
    it has filled others of the same names: its journal could not tell them apart."""
    numbers = catalog.column_numbers(conn, info)
    ours = {c: numbers[c] for c in (*spec.key, *(c.name for c in spec.columns)) if c in numbers}
    recorded = note(conn, run_id, info.oid, ours)
    if recorded == {"table": info.oid, "columns": ours}:
        return
    others = [c for c, number in ours.items() if recorded["columns"].get(c) != number]
    what = f"Column {others[0]!r} of {spec.table}" if others else f"Table {spec.table}"
    raise RunbookError(
        f"{what} was made anew since the run began to fill it. Nothing was changed by this call. "
        f"Next step: playbooks/rollback.yml -e run={run_id} gives back what the run filled "
        "elsewhere; then run the phase again."
    )


def require_same_table(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, acknowledged: Collection[str]
) -> list[str]:
    """What a person has to know where the table is not the one that the run filled. Raises
    RunbookError where that is not acknowledged, by the table's name."""
    filled = recorded(conn, run_id)
    if filled is None or filled["table"] == info.oid:
        return []
    told = (
        f"{spec.table} is another table than the one that the run filled: it was made anew since, "
        "or another one got its name."
    )
    if str(spec.table) not in acknowledged:
        raise RunbookError(
            f"{told} Nothing was changed. Next step: see whether its rows are those of the run, "
            "restored from a dump, say; if they are, pass "
            f'-e \'{{"rollback_acknowledged": ["{spec.table}"]}}\': rows and columns are told by '
            "their key and names only."
        )
    return [f"{told} Its rows and columns are told by their key and names only."]


def require_key(conn: Connection, spec: Spec, info: TableInfo, run_id: str) -> None:
    """Raise RunbookError where a column of the key is not there any more, or is another one."""
    numbers, known = _numbers(conn, info, run_id)
    for column in spec.key:
        if column not in numbers or numbers[column] != known.get(column, numbers[column]):
            raise RunbookError(
                f"Key column {column!r} of {spec.table} was renamed or dropped since the run, so "
                "the rows in its journal cannot be found. Nothing was changed. Next step: give the "
                "column its name back, then plan the rollback again."
            )


def present_columns(conn: Connection, spec: Spec, info: TableInfo, run_id: str) -> dict[str, str]:
    """For each column of the phase that the run filled and that is still there, the name that it
    bears now. One that was dropped and made anew is another one.

    Where nobody recorded which ones the run filled, and in another table, names are all there is to
    go by.
    """
    numbers, known = _numbers(conn, info, run_id)
    if not known:
        return catalog.names_there(spec, info)
    return {
        column.name: now
        for column in spec.columns
        for now in (column.name, column.renamed_from or "")
        if now in numbers and numbers[now] == known.get(column.name)
    }


def _numbers(
    conn: Connection, info: TableInfo, run_id: str
) -> tuple[dict[str, int], dict[str, int]]:
    """The columns' numbers as they are now, and of those that the run filled as they were; nothing
    where nobody recorded that, or it was another table."""
    filled = recorded(conn, run_id) or {}
    known = filled["columns"] if filled.get("table") == info.oid else {}
    return catalog.column_numbers(conn, info), known
