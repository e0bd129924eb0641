# SPDX-License-Identifier: GPL-3.0-or-later
"""Which table and which columns a run filled: what its journal is about, whatever bears their names
by now."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from psycopg.types.json import Jsonb

from .. import catalog
from ..catalog import TableInfo
from ..core import printable
from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Spec, Table
from ..core.values import plain, read
from .approvals import approved_spec
from .runs import get_run


@dataclass(frozen=True)
class Filled:
    """What a run fills: the table's oid, and the number of each column by the name that it had; and
    the names of the table's partitions by their oids, none where it has none or an older version
    recorded that."""

    table: int
    columns: dict[str, int]
    partitions: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Gone:
    """A partition that is none any more, by the name that it had; and the table that it is now,
    None where it was dropped."""

    was: str
    now: Table | None


def note(conn: Connection, run_id: str, filled: Filled) -> Filled:
    """Record what a run fills, unless it has filled something already; then partitions are added.
    Returns what is recorded."""
    row = one(
        conn,
        "UPDATE pgrunbook.run r SET filled = CASE WHEN filled IS NULL OR NOT EXISTS ("
        " SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id AND b.reverted_at IS NULL)"
        " THEN %(filled)s ELSE filled || jsonb_build_object('partitions',"
        " coalesce(filled -> 'partitions', '{}') || (%(filled)s -> 'partitions')) END"
        " WHERE id = %(run)s RETURNING filled",
        {"filled": Jsonb(plain(filled)), "run": run_id},
    )
    return read(Filled, row["filled"])


def recorded(conn: Connection, run_id: str) -> Filled | None:
    """What note() recorded. None where nothing was, or by an earlier version."""
    found = get_run(conn, run_id).filled
    return read(Filled, found) if found else None


def require_the_filled(conn: Connection, spec: Spec, info: TableInfo, run_id: str) -> None:
    """Record which table and columns the run fills, before it fills them. Raises RunbookError where
    it has filled others of the same names: its journal could not tell them apart."""
    numbers = catalog.column_numbers(conn, info)
    ours = {c: numbers[c] for c in (*spec.key, *(c.name for c in spec.columns)) if c in numbers}
    parts = {str(leaf.oid): str(leaf.table) for leaf in info.leaves if info.partitioned}
    noted = note(conn, run_id, Filled(info.oid, ours, parts))
    if noted == Filled(info.oid, ours):
        return
    others = [c for c, number in ours.items() if noted.columns.get(c) != number]
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
    if filled is None or filled.table == info.oid:
        return []
    told = (
        f"{spec.table} is another table than the one that the run filled: it was made anew since, "
        "or another one got its name."
    )
    if str(spec.table) not in acknowledged:
        raise RunbookError(
            f"{told} Nothing was changed. Next step: see whether its rows are those of the run, "
            "restored from a dump, say; if they are, pass "
            f"{printable.extra_variable('rollback_acknowledged', [*acknowledged, str(spec.table)])}"
            ": rows and columns are told by their key and names only."
        )
    return [f"{told} Its rows and columns are told by their key and names only."]


def partitions_gone(conn: Connection, info: TableInfo, run_id: str) -> list[Gone]:
    """The partitions that the table had when the run worked on it, and has no more."""
    filled = recorded(conn, run_id)
    leaves = {leaf.oid for leaf in info.leaves}
    if filled is None or filled.table != info.oid:
        return []
    gone = {int(oid): was for oid, was in filled.partitions.items() if int(oid) not in leaves}
    rows = conn.execute(
        "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])",
        (list(gone),),
    )
    there = {row["oid"]: Table(row["schema"], row["name"]) for row in rows}
    return [Gone(was, there.get(oid)) for oid, was in gone.items()]


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


def places_in_journal(conn: Connection, spec: Spec, info: TableInfo, run_id: str) -> dict[str, int]:
    """Where an entry of a run's journal has the values of the columns of a phase, as far as the run
    has filled these; nothing where it holds no values, or those of another key."""
    theirs = approved_spec(conn, run_id)
    if theirs.waive_rollback or theirs.key != spec.key:
        return {}
    filled = present_columns(conn, theirs, info, run_id)
    places = {
        filled[c.name]: len(spec.key) + n for n, c in enumerate(theirs.columns) if c.name in filled
    }
    ours = catalog.names_there(spec, info)
    return {column: places[now] for column, now in ours.items() if now in places}


def _numbers(
    conn: Connection, info: TableInfo, run_id: str
) -> tuple[dict[str, int], dict[str, int]]:
    """The columns' numbers as they are now, and of those that the run filled as they were; nothing
    where nobody recorded that, or it was another table."""
    filled = recorded(conn, run_id)
    known = filled.columns if filled and filled.table == info.oid else {}
    return catalog.column_numbers(conn, info), known
