# SPDX-License-Identifier: GPL-3.0-or-later
"""How far the backfill of a run is: the position in the table, the pass that it is in, what it has
written, and what the batches' sizes were."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from ..core.connection import Connection, one
from ..core.values import read
from .controls import CONTROL, Control, control_of
from .runs import Run, get_run, require_owner

_GENTLE = "gentle"


@dataclass(frozen=True)
class Checkpoint:
    """Up to where everything is done. next_page counts over all partitions; next_key is the key's
    values as text. unfinished has the chunks that were begun, each with its position, its pages,
    its passes and the next of these. What is None stays as the ledger has it."""

    next_page: int | None = None
    next_key: list[str] | None = None
    unfinished: list[list[int]] | None = None


@dataclass(frozen=True)
class Position:
    """Where the run's present pass over the table goes on, and with which page it ends."""

    next_page: int
    end_page: int
    next_key: list[str] | None
    unfinished: list[list[int]]


@dataclass(frozen=True)
class Progress:
    """How far a run is: the pass over the table that it is in (0 is the first one, others are
    catch-up passes), the rows that it wrote, in all and in this pass, in how many batches, how
    many were eligible when it was approved, and for how many seconds it has worked."""

    sweep: int = 0
    rows: int = 0
    rows_this_sweep: int = 0
    rows_eligible: int = 0
    seconds: float = 0.0
    batches: int = 0


@dataclass(frozen=True)
class WorkLeft:
    """What is left of a run: rows; how many a batch of it had so far, None before the first; and
    for how many seconds it has worked."""

    rows: int
    rows_per_batch: float | None
    seconds: float


@dataclass(frozen=True)
class Learned:
    """What slices learn and later ones begin with: the size of a batch by its kind, and what others
    felt and which pace followed from it."""

    sizes: dict[str, Any]
    gentle: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Watched:
    """What a run is told when it writes its checkpoint: what a person wants, and how many sessions
    were active when it began."""

    control: Control
    active_sessions: int


def progress(conn: Connection, run_id: str) -> Progress:
    """How far a run is. Raises RunbookError where it is not there any more."""
    row = conn.execute(
        "SELECT r.sweep, r.seconds, r.rows_eligible,"
        " coalesce(sum(b.row_count), 0)::int8 AS rows, count(b.id)::int8 AS batches,"
        " coalesce(sum(b.row_count) FILTER (WHERE b.sweep = r.sweep), 0)::int8 AS rows_this_sweep"
        " FROM pgrunbook.run r LEFT JOIN pgrunbook.batch b"
        "   ON b.run_id = r.id AND b.reverted_at IS NULL"
        " WHERE r.id = %s GROUP BY r.id",
        (run_id,),
    ).fetchone()
    if row is None:
        get_run(conn, run_id)
        raise AssertionError("get_run() raises where the run is not there")
    return read(Progress, row)


def work_left(conn: Connection, run_id: str) -> WorkLeft:
    """What is left of a run."""
    row = one(
        conn,
        "SELECT r.seconds, greatest(r.rows_eligible - coalesce(sum(b.row_count), 0), 0)::int8"
        " AS rows, avg(b.row_count) FILTER (WHERE b.row_count > 0)::float8 AS rows_per_batch"
        " FROM pgrunbook.run r LEFT JOIN pgrunbook.batch b"
        "   ON b.run_id = r.id AND b.reverted_at IS NULL"
        " WHERE r.id = %s GROUP BY r.id",
        (run_id,),
    )
    return read(WorkLeft, row)


def learned(conn: Connection, run_id: str) -> Learned:
    """What the slices so far have learned, as write_checkpoint() had it."""
    found = one(conn, "SELECT pace FROM pgrunbook.run WHERE id = %s", (run_id,))["pace"]
    gentle = found.pop(_GENTLE, {})
    return Learned(found, gentle)


def commit_ms(conn: Connection, run_id: str) -> float:
    """How long a small commit takes, in milliseconds, as its client feels it: it waits for the
    disk, and for a synchronous standby, as an application's does.

    It locks the run's row, which writes WAL and leaves no dead row version behind, as an UPDATE
    would ten times a second; and nothing that a subscriber is sent, as pg_logical_emit_message()
    would. Nothing that a run does to its row waits for such a lock.
    """
    started = time.perf_counter()
    conn.execute("SELECT FROM pgrunbook.run WHERE id = %s FOR KEY SHARE", (run_id,))
    return (time.perf_counter() - started) * 1000


def begin_pass(conn: Connection, run_id: str, number: int) -> None:
    """Have the next pass over the whole table begin at its start."""
    conn.execute(
        "UPDATE pgrunbook.run SET sweep = %s, next_page = 0, next_key = NULL, end_page = NULL,"
        " unfinished = '[]'"
        " WHERE id = %s",
        (number, run_id),
    )


def position(conn: Connection, run_id: str, pages: int) -> Position:
    """Where the run's present pass goes on. Its end is fixed when it begins, at so many pages, so
    that a table that grows all the time has one."""
    row = one(
        conn,
        "UPDATE pgrunbook.run SET end_page = coalesce(end_page, %s) WHERE id = %s"
        " RETURNING next_page, next_key, end_page, unfinished",
        (pages, run_id),
    )
    return Position(**row)


def write_checkpoint(
    conn: Connection,
    run: Run,
    at: Checkpoint,
    *,
    seconds: float,
    learned: Learned,
    active: int,
) -> Watched:
    """Write a checkpoint, with a sign of life: the run has worked so many seconds more, has learned
    so much, and sees so many active sessions, of which the first figure is kept.

    Raises RunbookError where the run belongs to another execution.
    """
    row = conn.execute(
        "UPDATE pgrunbook.run SET seen_at = clock_timestamp(), seconds = seconds + %(seconds)s,"
        " pace = %(pace)s, active_sessions = coalesce(active_sessions, %(active)s),"
        " next_page = coalesce(%(next_page)s, next_page),"
        " next_key = coalesce(%(next_key)s, next_key),"
        " unfinished = coalesce(%(unfinished)s, unfinished)"
        " WHERE id = %(id)s AND execution = %(execution)s"
        f" RETURNING {CONTROL}, active_sessions",
        {
            "seconds": seconds,
            "pace": Jsonb(_pace(learned)),
            "active": active,
            "next_page": at.next_page,
            "next_key": at.next_key,
            "unfinished": None if at.unfinished is None else Jsonb(at.unfinished),
            "id": run.id,
            "execution": run.execution,
        },
    ).fetchone()
    if row is None:
        require_owner(conn, run)
    if row is None:
        raise AssertionError("require_owner() raises where the run is not ours")
    return Watched(control_of(row), row["active_sessions"])


def _pace(learned: Learned) -> dict[str, Any]:
    return {**learned.sizes, **({_GENTLE: learned.gentle} if learned.gentle else {})}


def add_seconds(conn: Connection, run_id: str, seconds: float) -> None:
    """Count so many seconds more as work of the run."""
    conn.execute("UPDATE pgrunbook.run SET seconds = seconds + %s WHERE id = %s", (seconds, run_id))
