# SPDX-License-Identifier: GPL-3.0-or-later
"""One batch of the backfill: one transaction that fills rows and writes them to the journal.

It does not wait for its commit to reach the disk: rows and journal are lost together or not at all,
and the checkpoint that counts on them is written after them and does wait.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg.sql import Composed

from .. import ledger
from ..core.connection import Connection
from ..ledger import Control
from . import refused_rows

MAX_POINTERS = 65536  # more than a page can have: a pass of so many has one row of a page

DIRECT_LOCK_MS = 10
"""For how long a direct batch waits for a row that another transaction holds. It is far below
deadlock_timeout (1 s), so nobody else's transaction is ever cancelled in its favour."""


@dataclass(frozen=True)
class BatchResult:
    """What a batch did: rows changed, how many of them heap-only, its milliseconds from BEGIN to
    COMMIT, what a person tells the run, and the bytes of its journal before it is compressed."""

    rows: int
    hot: int
    milliseconds: float
    control: Control
    size: int = 0


def fill(
    conn: Connection,
    query: Composed,
    run: ledger.Run,
    leaf_oid: int,
    place: dict[str, Any],
    *,
    lock_timeout_ms: int | None = None,
) -> BatchResult:
    """Do one batch in one transaction, and wait for a lock no longer than lock_timeout_ms, or as
    the connection has it. Raises RunbookError when the run belongs to another execution."""
    started = time.monotonic()
    with conn.transaction():
        done = _fill(conn, query, run, leaf_oid, place, lock_timeout_ms)
    return replace(done, milliseconds=_since(started))


def fill_one(
    conn: Connection,
    picking: Composed,
    query: Composed,
    run: ledger.Run,
    leaf_oid: int,
    place: dict[str, Any],
) -> BatchResult:
    """Do a batch of one row, if there is one in this place, in one transaction.

    Raises RowRefused, which names the row, where the server refuses what it would hold, and
    RunbookError when the run belongs to another execution.
    """
    started = time.monotonic()
    row: dict[str, Any] | None = None
    try:
        with conn.transaction():
            row = conn.execute(picking, {**place, "run": run.id}).fetchone()
            only = {**place, **_only(place, row)} if row else place
            done = _fill(conn, query, run, leaf_oid, only)
    except psycopg.Error as error:
        if row and refused_rows.is_refusal(error):
            raise refused_rows.RowRefused(row["key"], error) from None
        raise
    return replace(done, milliseconds=_since(started))


def _only(place: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a place that has just this row in it."""
    if "first_key" in place:
        return {"first_key": row["texts"], "last_key": row["texts"]}
    page, pointer = row["tid"].strip("()").split(",")
    return {
        "first": int(page),
        "last": int(page) + 1,
        "passes": MAX_POINTERS,
        "pass": int(pointer) - 1,
    }


def _fill(
    conn: Connection,
    query: Composed,
    run: ledger.Run,
    leaf_oid: int,
    place: dict[str, Any],
    lock_timeout_ms: int | None = None,
) -> BatchResult:
    begun = ledger.begin_batch(conn, run, leaf_oid, lock_timeout_ms)
    row = conn.execute(query, {**place, "run": run.id}).fetchone()
    if row is None:
        return BatchResult(0, 0, 0.0, begun.control)
    return BatchResult(row["row_count"], row["hot"] - begun.hot, 0.0, begun.control, row["size"])


def _since(started: float) -> float:
    return (time.monotonic() - started) * 1000
