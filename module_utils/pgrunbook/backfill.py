# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the phase's columns from the source, a page range at a time.

A batch is one transaction: it locks the eligible rows of a page range that nobody else holds,
fills what is NULL, writes the journal and moves the cursor. So a value is never overwritten, and
nothing is eligible once the work is done. Rows that move or arrive meanwhile are caught by closing
sweeps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composed

from . import catalog, ledger
from .catalog import TableInfo
from .connection import Connection, be_patient, one, with_lock_retries
from .eligibility import any_left, any_of, count, eligible, matches, sample, source_query
from .plan_text import sample_text
from .progress import line
from .spec import Spec, require_open_window, window_closed
from .sql import comma, name, render, table

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE SKIP LOCKED on the rows of one batch"
MOST_SWEEPS = 6

VACUUM = "VACUUM (ANALYZE, TRUNCATE FALSE) {}"


@dataclass(frozen=True)
class Progress:
    """How far a run is: the sweep and page that come next, and what it wrote so far."""

    sweep: int
    next_page: int
    rows: int
    rows_this_sweep: int
    rows_eligible: int
    seconds: float


def batch_statement(spec: Spec) -> Composed:
    """The statement of one batch; its parameters are first, last (pages), most (rows), run and
    sweep, and it returns row_count unless that is 0.

    The rows to be changed are picked and locked first, and then found again by their ctid: they
    are locked, so it cannot change in between. A journal entry is an array of the key's values
    and, for each column of the phase, the value as it was stored, or null where none was filled.
    """
    keys = comma(SQL("t.{}").format(name(k)) for k in spec.key)
    news = comma(
        SQL("CASE WHEN t.{} IS NULL THEN s.{} END AS {}").format(
            name(c.name), name(f"v{n}"), name(f"v{n}")
        )
        for n, c in enumerate(spec.columns)
    )
    some_null = any_of(SQL("t.{} IS NULL").format(name(c.name)) for c in spec.columns)
    sets = comma(
        SQL("{} = coalesce(t.{}, p.{})").format(name(c.name), name(c.name), name(f"v{n}"))
        for n, c in enumerate(spec.columns)
    )
    entry = comma(
        [
            *(SQL("t.{}").format(name(k)) for k in spec.key),
            *(
                SQL("CASE WHEN p.{} IS NOT NULL THEN t.{} END").format(name(f"v{n}"), name(c.name))
                for n, c in enumerate(spec.columns)
            ),
        ]
    )
    return SQL(
        "WITH picked AS MATERIALIZED (\n"
        "  SELECT t.ctid AS tid, {keys}, {news}\n"
        "  FROM {table} t\n"
        "  JOIN ({source}) s ON {matches}\n"
        "  WHERE t.ctid >= format('(%%s,0)', %(first)s::bigint)::tid\n"
        "    AND t.ctid < format('(%%s,0)', %(last)s::bigint)::tid\n"
        "    AND {some_null}\n"
        "    AND {eligible}\n"
        "  LIMIT %(most)s FOR NO KEY UPDATE OF t SKIP LOCKED\n"
        "), filled AS (\n"
        "  UPDATE {table} t SET {sets}\n"
        "  FROM picked p WHERE t.ctid = ANY (ARRAY(SELECT tid FROM picked)) AND t.ctid = p.tid\n"
        "  RETURNING jsonb_build_array({entry}) AS entry\n"
        ")\n"
        "INSERT INTO pgrunbook.batch (run_id, sweep, first_page, last_page, row_count, journal)\n"
        "SELECT %(run)s, %(sweep)s, %(first)s, %(last)s, count(*), jsonb_agg(entry)\n"
        "FROM filled HAVING count(*) > 0 RETURNING row_count"
    ).format(
        keys=keys,
        news=news,
        table=table(spec.table),
        source=source_query(spec),
        matches=matches(spec),
        some_null=some_null,
        eligible=eligible(spec, {c.name: c.name for c in spec.columns}),
        sets=sets,
        entry=entry,
    )


def vacuum_statement(spec: Spec) -> Composed:
    """What follows the last batch: it sets the visibility map and renews the statistics."""
    return SQL(VACUUM).format(table(spec.table))


def statements(spec: Spec) -> list[str]:
    """The statements that an approval of the backfill covers."""
    return [render(batch_statement(spec)), render(vacuum_statement(spec))]


def progress(conn: Connection, run_id: str) -> Progress:
    """How far the run is, from the ledger."""
    row = one(
        conn,
        "SELECT r.sweep, r.next_page, r.seconds, r.rows_eligible,"
        " coalesce(sum(b.row_count), 0)::int8 AS rows,"
        " coalesce(sum(b.row_count) FILTER (WHERE b.sweep = r.sweep), 0)::int8 AS this_sweep"
        " FROM pgrunbook.run r LEFT JOIN pgrunbook.batch b"
        "   ON b.run_id = r.id AND b.reverted_at IS NULL"
        " WHERE r.id = %s GROUP BY r.id",
        (run_id,),
    )
    return Progress(
        row["sweep"],
        row["next_page"],
        row["rows"],
        row["this_sweep"],
        row["rows_eligible"],
        row["seconds"],
    )


def dry_run(conn: Connection, spec: Spec, run: ledger.Run, *, canary: bool) -> dict[str, Any]:
    """What the backfill would do, with up to 100 rows before and after. Writes nothing."""
    info = catalog.inspect(conn, spec.table)
    eligible_rows = count(conn, spec, info)["rows_eligible"]
    at = Progress(0, 0, 0, 0, eligible_rows, 0.0)
    if ledger.has_run(conn, run.id):
        at = progress(conn, run.id)
    rows = min(eligible_rows, max(spec.canary_rows - at.rows, 0)) if canary else eligible_rows
    return outcome(
        at,
        changed=rows,
        done=True,
        queries=statements(spec) if rows else [],
        diff={"prepared": sample_text(sample(conn, spec, info, 100)) if rows else ""},
    )


def run_slice(conn: Connection, spec: Spec, run: ledger.Run, *, canary: bool) -> dict[str, Any]:
    """Work for about slice_seconds, or until nothing is left to do.

    A canary stops when the run has changed canary_rows rows; all else needs the approval that
    follows the canary. Where there is nothing to do, neither ledger nor approval is asked for.
    Raises RunbookError without an approval, or when the maintenance window is over.
    """
    info = catalog.inspect(conn, spec.table)
    if not ledger.has_run(conn, run.id) and not count(conn, spec, info)["rows_eligible"]:
        return outcome(Progress(0, 0, 0, 0, 0, 0.0), changed=0, done=True)
    ledger.require_approval(conn, run, "plan" if canary else "backfill", statements(spec))
    require_open_window(spec)
    started = time.monotonic()
    before = progress(conn, run.id)
    most = max(spec.canary_rows - before.rows, 0) if canary else None
    done = _work(conn, spec, info, run, before, most, started + spec.slice_seconds)
    if done and not canary:
        be_patient(conn)
        vacuum_started = time.monotonic()
        conn.execute(vacuum_statement(spec), ())
        conn.execute(
            "UPDATE pgrunbook.run SET seconds = seconds + %s WHERE id = %s",
            (time.monotonic() - vacuum_started, run.id),
        )
    after = progress(conn, run.id)
    return outcome(
        after,
        changed=after.rows - before.rows,
        done=done,
        queries=statements(spec),
        slice_seconds=round(time.monotonic() - started, 3),
        stopped="window" if window_closed(spec) and not done else "",
    )


def _work(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    at: Progress,
    most: int | None,
    deadline: float,
) -> bool:
    """Do batches until the deadline, the window's end, or the end of the work (then True)."""
    query, pages = batch_statement(spec), _pages_per_batch(spec, info)
    sweep, page, found, end = at.sweep, at.next_page, at.rows_this_sweep, info.pages
    while most is None or most > 0:
        if page >= end:
            if sweep + 1 == MOST_SWEEPS or (found == 0 and not any_left(conn, spec)):
                return True
            sweep, page, found = sweep + 1, 0, 0
            end = catalog.inspect(conn, spec.table).pages
        limit = spec.batch_rows if most is None else min(spec.batch_rows, most)
        last = min(page + pages, end)
        rows, page = _batch(conn, spec, info, run, query, sweep, page, last, limit)
        found += rows
        if most is not None:
            most -= rows
        if time.monotonic() >= deadline or window_closed(spec):
            return False
    return True


def _batch(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    query: Composed,
    sweep: int,
    first: int,
    last: int,
    limit: int,
) -> tuple[int, int]:
    """One batch in one transaction: the rows changed, and the page to go on from.

    That is the first page again where the limit cut the batch short.
    """

    def once() -> tuple[int, int]:
        started = time.monotonic()
        with conn.transaction():
            row = conn.execute(
                query,
                {"first": first, "last": last, "most": limit, "run": run.id, "sweep": sweep},
            ).fetchone()
            rows = row["row_count"] if row else 0
            page = first if rows == limit else last
            owned = conn.execute(
                "UPDATE pgrunbook.run SET sweep = %s, next_page = %s, seen_at = clock_timestamp(),"
                " seconds = seconds + %s WHERE id = %s AND execution = %s",
                (sweep, page, time.monotonic() - started, run.id, run.execution),
            ).rowcount
            if not owned:
                ledger.require_owner(conn, run)
            return rows, page

    return with_lock_retries(
        conn, once, table_oid=info.oid, what=f"Backfill of {spec.table}", tries=spec.lock_tries
    )


def outcome(
    at: Progress, *, changed: int, done: bool, reverting: bool = False, **more: Any
) -> dict[str, Any]:
    """What a module call returns: the progress so far, what this call changed, and more."""
    result = {
        "changed": changed > 0,
        "done": done,
        "rows_changed": changed,
        "rows_done": at.rows,
        "rows_eligible": at.rows_eligible,
        "sweep": at.sweep,
        "seconds": round(at.seconds, 3),
        "slice_seconds": 0.0,
        "queries": [],
        "diff": {"prepared": ""},
        "stopped": "",
        "rows_left_alone": 0,
        "left_alone": [],
        **more,
    }
    return {**result, "progress": line(result, reverting=reverting)}


def _pages_per_batch(spec: Spec, info: TableInfo) -> int:
    rows_per_page = max(info.rows_estimate / info.pages, 1.0) if info.pages else 1.0
    return max(round(spec.batch_rows / rows_per_page), 1)
