# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the backfill back exactly: just the rows in the journal, and only as the run left them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from psycopg.sql import SQL, Composed, Literal

from . import catalog, ledger
from .backfill import outcome, progress
from .catalog import TableInfo
from .connection import Connection, one, with_lock_retries
from .spec import Spec
from .sql import comma, name, render, table, text

MOST_LEFT_ALONE = 100


def revert_slice(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back this run's batches, the latest first, for about slice_seconds.

    A row goes back to NULL in just the columns that the run filled, if all of them still hold
    what the run wrote. Rows changed or deleted since are left alone and listed in left_alone,
    at most MOST_LEFT_ALONE of them.
    """
    ledger.get_run(conn, run.id)
    info = catalog.inspect(conn, spec.table)
    before, left_before = progress(conn, run.id), _left_alone(conn, run)["rows"]
    query = revert_statement(spec, catalog.present_names(spec, info), info)
    started = time.monotonic()
    if before.rows and not dry:
        ledger.require_approval(conn, run, "rollback", [render(query)])
        while time.monotonic() - started < spec.slice_seconds and _revert_batch(
            conn, spec, info, run, query
        ):
            pass
    after = progress(conn, run.id)
    left = _left_alone(conn, run)
    return outcome(
        after,
        changed=before.rows if dry else before.rows - after.rows - left["rows"] + left_before,
        done=dry or after.rows == 0,
        reverting=True,
        queries=[render(query)] if before.rows else [],
        slice_seconds=round(time.monotonic() - started, 3),
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
        " UPDATE {table} t SET {sets} FROM entry WHERE {keys} AND {unchanged} RETURNING e"
        ") UPDATE pgrunbook.batch SET reverted_at = clock_timestamp(), left_alone = ("
        " SELECT jsonb_agg(e) FROM (SELECT e FROM entry EXCEPT SELECT e FROM reverted) kept)"
        " WHERE id = %(batch)s"
    ).format(
        table=table(spec.table),
        sets=comma(
            SQL("{c} = CASE WHEN e -> {n} = 'null' THEN t.{c} END").format(c=c, n=n)
            for c, n in written
        ),
        keys=SQL(" AND ").join(
            SQL("t.{} = (e ->> {})::{}").format(name(k), Literal(n), text(info.columns[k].type))
            for n, k in enumerate(spec.key)
        ),
        unchanged=SQL(" AND ").join(
            SQL("(e -> {n} = 'null' OR to_jsonb(t.{c}) = e -> {n})").format(c=c, n=n)
            for c, n in written
        ),
    )


def _revert_batch(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, query: Composed
) -> bool:
    """Take the latest batch back, in one transaction. False when there is none left."""
    batch = conn.execute(
        "SELECT id FROM pgrunbook.batch WHERE run_id = %s AND reverted_at IS NULL"
        " ORDER BY id DESC LIMIT 1",
        (run.id,),
    ).fetchone()
    if batch is None:
        return False

    def once() -> None:
        with conn.transaction():
            conn.execute(query, {"batch": batch["id"]})
            ledger.require_owner(conn, run)

    with_lock_retries(
        conn, once, table_oid=info.oid, what=f"Rollback of {spec.table}", tries=spec.lock_tries
    )
    return True


def _left_alone(conn: Connection, run: ledger.Run) -> dict[str, Any]:
    return one(
        conn,
        "SELECT count(*)::int8 AS rows,"
        " coalesce((jsonb_agg(e) FILTER (WHERE n <= %s)), '[]') AS keys"
        " FROM (SELECT e, row_number() OVER () AS n FROM pgrunbook.batch b,"
        "       jsonb_array_elements(b.left_alone) e WHERE b.run_id = %s) l",
        (MOST_LEFT_ALONE, run.id),
    )
