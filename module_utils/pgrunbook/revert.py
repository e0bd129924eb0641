# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the backfill back exactly: just the rows in the journal, and only as the run left them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from psycopg.sql import SQL, Composed, Literal

from . import catalog, ledger, supervisor, surroundings
from .backfill import outcome, progress, slice_outcome
from .batch import Done
from .catalog import TableInfo
from .connection import Connection, one, with_lock_retries
from .spec import Spec
from .sql import comma, name, render, table, text
from .supervisor import Slice

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE on the rows of one batch"
MOST_LEFT_ALONE = 100


def revert_slice(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back this run's batches, the latest first, for about slice_seconds.

    A row goes back to NULL in just the columns that the run filled, if all of them still hold
    what the run wrote. Rows changed or deleted since are left alone and listed in left_alone,
    at most MOST_LEFT_ALONE of them.
    """
    ledger.get_run(conn, run.id)
    info = catalog.inspect(conn, spec.table)
    before, left_before = progress(conn, run.id), _left_alone(conn, run.id)
    query = revert_statement(spec, catalog.present_names(spec, info), info)
    queries = [render(query)] if before.rows else []
    if dry or not before.rows:
        return outcome(
            before,
            changed=before.rows,
            done=True,
            reverting=True,
            queries=queries,
            rows_left_alone=left_before["rows"],
            left_alone=left_before["keys"],
        )
    plan = ledger.approved_plan(conn, run, "rollback")
    ledger.require_statements(plan, run, queries)
    surroundings.require_unchanged(conn, spec, info, plan)
    current = supervisor.start(conn, spec, run, interleaved=False)
    supervisor.supervise(
        conn, current, lambda worker: _work(worker, current, info, query), spec.workers
    )
    after, left = progress(conn, run.id), _left_alone(conn, run.id)
    return slice_outcome(
        conn,
        current,
        before,
        changed=before.rows - after.rows - left["rows"] + left_before["rows"],
        done=after.rows == 0,
        reverting=True,
        queries=queries,
        rows_left_alone=left["rows"],
        left_alone=left["keys"],
    )


def revert_statement(spec: Spec, names: Mapping[str, str], info: TableInfo) -> Composed:
    """The statement that takes one batch back; its parameter is the batch's id."""
    width = len(spec.key)
    written = [(name(names[c.name]), Literal(width + n)) for n, c in enumerate(spec.columns)]
    return SQL(
        "WITH entry AS ("
        " SELECT e FROM pgrunbook.batch b, jsonb_array_elements(b.journal) e WHERE b.id = %(batch)s"
        "), reverted AS ("
        " UPDATE {table} t SET {sets} FROM entry WHERE {keys} AND {unchanged} RETURNING entry.e"
        ") UPDATE pgrunbook.batch SET reverted_at = clock_timestamp(), left_alone = ("
        " SELECT jsonb_agg(e) FROM (SELECT e FROM entry EXCEPT SELECT e FROM reverted) kept)"
        " WHERE id = %(batch)s"
    ).format(
        table=table(spec.table),
        sets=comma(
            SQL("{c} = CASE WHEN entry.e ->> {n} IS NULL THEN t.{c} END").format(c=c, n=n)
            for c, n in written
        ),
        keys=SQL(" AND ").join(
            SQL("t.{} = (entry.e ->> {})::{}").format(
                name(k), Literal(n), text(info.columns[k].type)
            )
            for n, k in enumerate(spec.key)
        ),
        unchanged=SQL(" AND ").join(
            SQL("(entry.e ->> {n} IS NULL OR t.{c}::text = entry.e ->> {n})").format(c=c, n=n)
            for c, n in written
        ),
    )


def _left_alone(conn: Connection, run_id: str) -> dict[str, Any]:
    """How many rows a rollback of the run did not touch, and the journal entries of some."""
    return one(
        conn,
        "SELECT count(*)::int8 AS rows,"
        " coalesce((jsonb_agg(e) FILTER (WHERE n <= %s)), '[]') AS keys"
        " FROM (SELECT e, row_number() OVER () AS n FROM pgrunbook.batch b,"
        "       jsonb_array_elements(b.left_alone) e WHERE b.run_id = %s) l",
        (MOST_LEFT_ALONE, run_id),
    )


def _work(conn: Connection, current: Slice, info: TableInfo, query: Composed) -> None:
    """Take batches back until there is none, or no time, but at least one."""
    conn.execute("SET statement_timeout = 0")

    def once() -> Done | None:
        return _revert_batch(conn, current.run, query)

    while current.may_go_on():
        done = with_lock_retries(
            conn,
            once,
            table_oid=info.oid,
            what=f"Rollback of {current.spec.table}",
            tries=current.spec.lock_tries,
            sleep=current.sleep,
        )
        if done is None:
            return
        current.record(done, later=False)
        if not current.time_left():
            return


def _revert_batch(conn: Connection, run: ledger.Run, query: Composed) -> Done | None:
    """Take the latest batch that nobody else is at back, in one transaction. None when there is
    none left."""
    started = time.monotonic()
    with conn.transaction():
        batch = conn.execute(
            "SELECT b.id, b.row_count, r.execution, r.control, r.control_by, r.rows_per_second"
            " FROM pgrunbook.batch b JOIN pgrunbook.run r ON r.id = b.run_id"
            " WHERE b.run_id = %s AND b.reverted_at IS NULL"
            " ORDER BY b.id DESC LIMIT 1 FOR UPDATE OF b SKIP LOCKED",
            (run.id,),
        ).fetchone()
        if batch is None:
            return None
        if batch["execution"] != run.execution:
            ledger.require_owner(conn, run)
        conn.execute(query, {"batch": batch["id"]})
    return Done(
        rows=batch["row_count"],
        hot=0,
        milliseconds=(time.monotonic() - started) * 1000,
        control=batch["control"],
        control_by=batch["control_by"],
        rows_per_second=batch["rows_per_second"],
    )
