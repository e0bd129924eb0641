# SPDX-License-Identifier: GPL-3.0-or-later
"""Schema changes that a run made, and those that it took back."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.connection import Connection
from .events import event
from .schema import exists

INDEX_TRIAL, INDEX_KEPT = "index_trial", "index_kept"
"""Kinds of change: an index that is tried, and one that was tried and kept."""
INDEX_PART, INDEX_ATTACHED = "index_part", "index_attached"
"""Kinds of change: an index of one partition that a run made, or that it found and attached; of
the latter, old has the definition."""


@dataclass(frozen=True)
class Change:
    """A schema change of a run: its kind, and what was there before and after it, such as two names
    of a column. Of an index that the run made, old is empty, and new is its name."""

    kind: str
    old: str
    new: str


@dataclass(frozen=True)
class Trial:
    """A trial of an index: the run that made it, and the index."""

    run_id: str
    index: str


def change_made(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record a schema change, in the transaction that makes it where it has one."""
    with conn.transaction():
        conn.execute(
            "INSERT INTO pgrunbook.change (run_id, kind, old, new) VALUES (%s, %s, %s, %s)",
            (run_id, kind, old, new),
        )
        event(conn, run_id, kind, old=old, new=new)


def change_left(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record that there is nothing any more of which a schema change could be taken back."""
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.change SET undone_at = clock_timestamp()"
            " WHERE run_id = %s AND kind = %s AND old = %s AND new = %s AND undone_at IS NULL",
            (run_id, kind, old, new),
        )
        event(conn, run_id, f"{kind}_left", old=old, new=new)


def change_undone(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record that a schema change was taken back."""
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.change SET undone_at = clock_timestamp()"
            " WHERE run_id = %s AND kind = %s AND old = %s AND new = %s AND undone_at IS NULL",
            (run_id, kind, old, new),
        )
        event(conn, run_id, f"{kind}_undone", old=old, new=new)


def part_made(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record what was done to the index of one partition. It is a part of a change that has its
    event already, so it has none."""
    conn.execute(
        "INSERT INTO pgrunbook.change (run_id, kind, old, new) VALUES (%s, %s, %s, %s)",
        (run_id, kind, old, new),
    )


def part_undone(conn: Connection, run_id: str, kind: str, *, new: str) -> None:
    """Record that it was taken back."""
    conn.execute(
        "UPDATE pgrunbook.change SET undone_at = clock_timestamp()"
        " WHERE run_id = %s AND kind = %s AND new = %s AND undone_at IS NULL",
        (run_id, kind, new),
    )


def parts_made(conn: Connection, table: str) -> set[str]:
    """The indexes of single partitions that a run of any phase made on a table, as part_made() has
    their names, and did not take back."""
    if not exists(conn):
        return set()
    found = conn.execute(
        "SELECT DISTINCT c.new FROM pgrunbook.change c JOIN pgrunbook.run r ON r.id = c.run_id"
        " WHERE r.table_name = %s AND c.kind = %s AND c.undone_at IS NULL",
        (table, INDEX_PART),
    )
    return {row["new"] for row in found}


def trial_kept(conn: Connection, run_id: str, index: str) -> None:
    """Record that an index that was tried stays: from now on it is a change like any other."""
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.change SET kind = %s"
            " WHERE run_id = %s AND kind = %s AND new = %s AND undone_at IS NULL",
            (INDEX_KEPT, run_id, INDEX_TRIAL, index),
        )
        event(conn, run_id, INDEX_KEPT, old="", new=index)


def open_trials(conn: Connection, table: str) -> list[Trial]:
    """The trials of indexes of a table, in any run, that neither dropped nor kept theirs. Where
    none is at work they were broken off."""
    if not exists(conn):
        return []
    found = conn.execute(
        "SELECT DISTINCT c.run_id, c.new AS index FROM pgrunbook.change c"
        " JOIN pgrunbook.run r ON r.id = c.run_id"
        " WHERE r.table_name = %s AND c.kind = %s AND c.undone_at IS NULL ORDER BY 1, 2",
        (table, INDEX_TRIAL),
    )
    return [Trial(**row) for row in found]


def list_changes(conn: Connection, run_id: str, kind: str) -> list[Change]:
    """The schema changes of a run that still stand, the latest first. What was begun twice, such
    as an index build that a crash broke off, is there once."""
    if not exists(conn):
        return []
    found = conn.execute(
        "SELECT kind, old, new FROM pgrunbook.change"
        " WHERE run_id = %s AND kind = %s AND undone_at IS NULL"
        " GROUP BY kind, old, new ORDER BY max(id) DESC",
        (run_id, kind),
    )
    return [Change(**row) for row in found]


def later_changes(conn: Connection, run_id: str, table: str) -> list[tuple[str, Change]]:
    """The renames and conversions of columns that other runs have made on the table since this run
    began, and that still stand, the latest first, each after its run's id."""
    found = conn.execute(
        "SELECT c.run_id, c.kind, c.old, c.new FROM pgrunbook.change c"
        " JOIN pgrunbook.run r ON r.id = c.run_id"
        " WHERE r.table_name = %(table)s AND r.id <> %(run)s AND c.undone_at IS NULL"
        " AND c.kind IN ('rename', 'convert')"
        " AND c.made_at > (SELECT started_at FROM pgrunbook.run WHERE id = %(run)s)"
        " ORDER BY c.id DESC",
        {"table": table, "run": run_id},
    )
    return [(row["run_id"], Change(row["kind"], row["old"], row["new"])) for row in found]


def standing_changes(conn: Connection, run_id: str) -> list[Change]:
    """All schema changes of a run that still stand, apart from parts of them, the latest first."""
    found = conn.execute(
        "SELECT kind, old, new FROM pgrunbook.change WHERE run_id = %s AND undone_at IS NULL"
        " AND kind NOT IN (%s, %s) GROUP BY kind, old, new ORDER BY max(id) DESC",
        (run_id, INDEX_PART, INDEX_ATTACHED),
    )
    return [Change(**row) for row in found]
