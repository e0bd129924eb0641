# SPDX-License-Identifier: GPL-3.0-or-later
"""The batches of a run: what the statement of a batch writes to the ledger, and how many rows the
batches have filled.

A batch's statement changes the table and the ledger at once. The ledger gives the part that is on
its own tables; backfill/batch_sql.py composes the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed, Literal

from ..core.connection import Connection, one, rows_as
from .controls import CONTROL, Control, control_of
from .runs import Run, require_owner


@dataclass(frozen=True)
class Begun:
    """What a batch finds when it begins: what a person told the run to do, and how many heap-only
    updates of the partition its session counts so far."""

    control: Control
    hot: int


ASYNCHRONOUS = "set_config('synchronous_commit', 'off', true) AS committing"
"""What has the transaction that is open commit without waiting for the disk."""


def begin_batch(
    conn: Connection, run: Run, leaf_oid: int, lock_timeout_ms: int | None = None
) -> Begun:
    """Begin a batch, in its transaction, which will not wait for the disk, and for locks no longer
    than lock_timeout_ms, or as the connection has it. Raises RunbookError where the run is not
    there any more, or belongs to another execution."""
    row = conn.execute(
        f"SELECT execution, {CONTROL}, pg_stat_get_xact_tuples_hot_updated(%s::oid) AS hot,"
        f" {ASYNCHRONOUS}, set_config('lock_timeout',"
        " coalesce(%s::text, current_setting('lock_timeout')), true) AS waiting"
        " FROM pgrunbook.run WHERE id = %s",
        (leaf_oid, None if lock_timeout_ms is None else f"{lock_timeout_ms}ms", run.id),
    ).fetchone()
    if row is None or row["execution"] != run.execution:
        require_owner(conn, run)
    if row is None:
        raise AssertionError("require_owner() raises where the run is not there")
    return Begun(control_of(row), row["hot"])


def insert_batch(measured: Composable) -> Composed:
    """The part of a batch's statement that records it, if it changed a row.

    filled(entry) is the statement's query with an entry of the journal for each row. What is
    returned is row_count, size, the bytes of the journal before it is compressed, and measured.
    """
    return SQL(
        "INSERT INTO pgrunbook.batch\n"
        "  (run_id, sweep, first_page, last_page, row_count, journal, milliseconds, xid)\n"
        "SELECT %(run)s, %(sweep)s, %(first)s::int8, %(last)s::int8, count(*), jsonb_agg(entry),\n"
        "  extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000,\n"
        "  pg_current_xact_id()::text::int8\n"
        "FROM filled HAVING count(*) > 0\n"
        "RETURNING row_count, pg_column_size(journal) AS size,\n"
        "  {}"
    ).format(measured)


def rows_standing(conn: Connection, run_id: str) -> int:
    """How many rows the run has changed, as often as it did, and nobody has taken back."""
    rows: int = one(
        conn,
        "SELECT coalesce(sum(row_count), 0)::int8 AS rows FROM pgrunbook.batch"
        " WHERE run_id = %s AND reverted_at IS NULL",
        (run_id,),
    )["rows"]
    return rows


@dataclass(frozen=True)
class BatchRange:
    """The batches whose ids are from first to last."""

    first: int
    last: int


def batch_ranges(conn: Connection, run_id: str, rows: int) -> list[BatchRange]:
    """The batches of a run that were not taken back, in ranges that changed about so many rows
    each."""
    query = (
        "SELECT min(id) AS first, max(id) AS last FROM (SELECT id,"
        " (sum(row_count) OVER (ORDER BY id) - 1) / %s::int8 AS n"
        " FROM pgrunbook.batch WHERE run_id = %s AND reverted_at IS NULL) b GROUP BY n ORDER BY 1"
    )
    return rows_as(conn, BatchRange, query, (rows, run_id))


def standing_entries(run: Composable, among: BatchRange | None = None) -> Composed:
    """A query for the entries e of a run's journals, without those that were taken back; of some
    batches, or of all."""
    of_run = SQL("b.run_id = {}").format(run)
    if among:
        ids = (Literal(among.first), Literal(among.last))
        of_run = SQL("{} AND b.id BETWEEN {} AND {}").format(of_run, *ids)
    return SQL(
        "SELECT e FROM pgrunbook.batch b, jsonb_array_elements(b.journal) e"
        " WHERE b.reverted_at IS NULL AND {}"
    ).format(of_run)


NO_ENTRIES = SQL("SELECT NULL::jsonb AS e, NULL::int8 AS xid LIMIT 0")
"""Entries with the transactions that wrote them where there is no ledger."""


def standing_writers(run: Composable) -> Composed:
    """A query for the entries e of a run's journals, each with the id of the transaction that wrote
    it as a row's xmin has it, 32 bits; null where an older version wrote it."""
    return SQL(
        "SELECT e, b.xid & 4294967295 AS xid FROM pgrunbook.batch b,"
        " jsonb_array_elements(b.journal) e WHERE b.reverted_at IS NULL AND b.run_id = {}"
    ).format(run)
