# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the phase's columns from the source, a page range at a time, and take that back exactly.

A batch is one transaction: it locks the eligible rows of a page range that nobody else holds,
fills what is NULL, writes the journal and moves the cursor. A row is eligible when one of the
columns is NULL and the source has a value for it; so a value is never overwritten, and nothing is
eligible once the work is done. Rows that move or arrive meanwhile are caught by closing sweeps.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from . import catalog, ledger
from .catalog import TableInfo
from .connection import Connection, be_patient, one, with_lock_retries
from .errors import RunbookError
from .plan_text import sample_text
from .progress import line
from .spec import Column, Spec, require_open_window, window_closed
from .sql import comma, expression, name, render, table, text

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE SKIP LOCKED on the rows of one batch"
MOST_SWEEPS = 6
MOST_LEFT_ALONE = 100

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


def source_query(spec: Spec) -> Composed:
    """The source as a subquery: its key columns k0…, and the expressions' values v0…

    Only the source is in scope of the expressions, so their column names cannot be ambiguous.
    """
    keys = [
        SQL("{} AS {}").format(name(column), name(f"k{n}"))
        for n, column in enumerate(spec.source_key.values())
    ]
    values = [
        SQL("{} AS {}").format(expression(c.source), name(f"v{n}"))
        for n, c in enumerate(spec.columns)
    ]
    return SQL("SELECT {} FROM {}").format(comma([*keys, *values]), table(spec.source))


def matches(spec: Spec) -> Composed:
    """The join condition between the table t and the source s."""
    return SQL(" AND ").join(
        SQL("t.{} = s.{}").format(name(column), name(f"k{n}"))
        for n, column in enumerate(spec.source_key)
    )


def eligible(spec: Spec, names: Mapping[str, str]) -> Composed:
    """The condition on t and s under which a row gains at least one value."""
    return _any(
        SQL("(t.{} IS NULL AND s.{} IS NOT NULL)").format(name(names[c.name]), name(f"v{n}"))
        for n, c in enumerate(spec.columns)
    )


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
    some_null = _any(SQL("t.{} IS NULL").format(name(c.name)) for c in spec.columns)
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


def count(conn: Connection, spec: Spec, info: TableInfo) -> dict[str, Any]:
    """Count the rows by what the backfill would do with them.

    Returns rows_total, rows_eligible, rows_skipped by reason, and for every column the share of
    rows that have a value now and would have one afterwards, in per cent.
    """
    names = catalog.present_names(spec, info)
    complete = SQL(" AND ").join(
        SQL("t.{} IS NOT NULL").format(name(names[c.name])) for c in spec.columns
    )
    no_key = _any(SQL("t.{} IS NULL").format(name(c)) for c in spec.source_key)
    shares = comma(
        SQL("count(t.{now}) AS {n}, count(coalesce(t.{now}, s.{v})) AS {a}").format(
            now=name(names[c.name]),
            v=name(f"v{n}"),
            n=name(f"now{n}"),
            a=name(f"after{n}"),
        )
        for n, c in enumerate(spec.columns)
    )
    query = SQL(
        "SELECT count(*) AS total,"
        " count(*) FILTER (WHERE {eligible}) AS eligible,"
        " count(*) FILTER (WHERE {complete}) AS already_complete,"
        " count(*) FILTER (WHERE NOT ({complete}) AND ({no_key})) AS no_source_key,"
        " count(*) FILTER (WHERE NOT ({complete}) AND NOT ({no_key}) AND s.k0 IS NULL)"
        "   AS no_source_row,"
        " count(*) FILTER (WHERE NOT ({complete}) AND s.k0 IS NOT NULL AND NOT ({eligible}))"
        "   AS source_has_no_value, {shares}"
        " FROM {table} t LEFT JOIN ({source}) s ON {matches}"
    ).format(
        eligible=eligible(spec, names),
        complete=complete,
        no_key=no_key,
        shares=shares,
        table=table(spec.table),
        source=source_query(spec),
        matches=matches(spec),
    )
    row = one(conn, query, ())
    total = row["total"]
    reasons = ("already_complete", "no_source_key", "no_source_row", "source_has_no_value")
    return {
        "rows_total": total,
        "rows_eligible": row["eligible"],
        "rows_skipped": {reason: row[reason] for reason in reasons},
        "coverage": {
            c.name: {
                "before": percentage(row[f"now{n}"], total),
                "after": percentage(row[f"after{n}"], total),
            }
            for n, c in enumerate(spec.columns)
        },
    }


def sample(conn: Connection, spec: Spec, info: TableInfo, rows: int) -> list[dict[str, Any]]:
    """Up to that many eligible rows at random, each with key and values before and after."""
    names = catalog.present_names(spec, info)
    before = [
        SQL("to_jsonb(t.{}) AS {}").format(name(names[c.name]), name(f"b{n}"))
        for n, c in enumerate(spec.columns)
    ]
    after = [
        SQL("to_jsonb(coalesce(t.{}, s.{})) AS {}").format(
            name(names[c.name]), name(f"v{n}"), name(f"a{n}")
        )
        for n, c in enumerate(spec.columns)
    ]
    query = SQL(
        "SELECT jsonb_build_array({keys}) AS key, {values} FROM {table} t JOIN ({source}) s"
        " ON {matches} WHERE {eligible} ORDER BY {order} LIMIT %s"
    ).format(
        keys=comma(SQL("t.{}").format(name(k)) for k in spec.key),
        values=comma([*before, *after]),
        table=table(spec.table),
        source=source_query(spec),
        matches=matches(spec),
        eligible=eligible(spec, names),
        order=random_order(spec),
    )
    return [
        {
            "key": row["key"],
            "before": {c.name: row[f"b{n}"] for n, c in enumerate(spec.columns)},
            "after": {c.name: row[f"a{n}"] for n, c in enumerate(spec.columns)},
        }
        for row in conn.execute(query, (rows,))
    ]


def random_order(spec: Spec) -> Composed:
    """What to order rows t by to take some at random: a hash of the key, salted by the seed."""
    keys = comma(SQL("t.{}").format(name(k)) for k in spec.key)
    return SQL("hashtextextended(jsonb_build_array({})::text, {})").format(
        keys, Literal(spec.sample_seed)
    )


def require_sound_expressions(conn: Connection, spec: Spec) -> None:
    """Run each source expression over the source in this READ ONLY transaction.

    Raises RunbookError, naming the column, where one is no single expression, fails, tries to
    write, or gives a value that the column's type does not take. The extended query protocol,
    which prepare asks for, takes one statement only.
    """
    for column in spec.columns:
        try:
            for query in _trials(spec, column):
                conn.execute(query, (), prepare=True)
        except psycopg.errors.ReadOnlySqlTransaction as error:
            why = f"it tries to write: {error.diag.message_primary}"
        except psycopg.Error as error:
            why = str(error.diag.message_primary)
        else:
            continue
        raise RunbookError(
            f"The source expression of column {column.name!r}, {column.source!r}, cannot be used "
            f"on {spec.source}: {why}. Next step: correct source in phase_columns."
        )


def _trials(spec: Spec, column: Column) -> list[Composed]:
    """Queries that fail where the column's source expression would make a batch fail.

    A cast cuts a value that is too long; reading it as a record's field refuses it, as UPDATE does.
    """
    parts = {
        "e": expression(column.source),
        "type": text(column.type),
        "source": table(spec.source),
    }
    trials = ["SELECT count({e}), count(coalesce(NULL::{type}, {e})) FROM {source}"]
    if column.type.endswith(")"):
        trials.append(
            "SELECT count(r.v) FROM (SELECT {e}::text AS v FROM {source}) s,"
            " jsonb_to_record(jsonb_build_object('v', s.v)) AS r(v {type})"
        )
    return [SQL(trial).format(**parts) for trial in trials]


def require_unique_source(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError when two source rows have the same key: which one fills is undefined."""
    keys = comma(name(column) for column in spec.source_key.values())
    query = SQL(
        "SELECT jsonb_build_array({keys})::text AS key, count(*) AS n FROM {source}"
        " WHERE ({keys}) IS NOT NULL GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
    ).format(keys=keys, source=table(spec.source))
    row = conn.execute(query, ()).fetchone()
    if row:
        raise RunbookError(
            f"{spec.source} has {row['n']} rows for the key {row['key']}, so it is undefined "
            "which one fills. Next step: name a table or a view with one row a key as "
            "phase_source_table."
        )


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
    return _outcome(
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
        return _outcome(Progress(0, 0, 0, 0, 0, 0.0), changed=0, done=True)
    ledger.require_approval(conn, run, "plan" if canary else "backfill", statements(spec))
    require_open_window(spec)
    started = time.monotonic()
    before = progress(conn, run.id)
    most = max(spec.canary_rows - before.rows, 0) if canary else None
    done = _work(conn, spec, info, run, before, most, started + spec.slice_seconds)
    if done and not canary:
        be_patient(conn)
        conn.execute(vacuum_statement(spec), ())
    conn.execute(
        "UPDATE pgrunbook.run SET seconds = seconds + %s WHERE id = %s",
        (time.monotonic() - started, run.id),
    )
    after = progress(conn, run.id)
    return _outcome(
        after,
        changed=after.rows - before.rows,
        done=done,
        queries=statements(spec),
        slice_seconds=round(time.monotonic() - started, 3),
        stopped="window" if window_closed(spec) and not done else "",
    )


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
    return _outcome(
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


def percentage(part: int, whole: int) -> float:
    """part of whole in per cent, with two decimals, rounded down; of nothing it is 100."""
    return part * 10000 // whole / 100 if whole else 100.0


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
            if sweep + 1 == MOST_SWEEPS or (found == 0 and not _any_left(conn, spec)):
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


def _any_left(conn: Connection, spec: Spec) -> bool:
    """Whether a row is eligible still: others had locked it, or it came behind the sweep."""
    query = SQL("SELECT EXISTS (SELECT FROM {} t JOIN ({}) s ON {} WHERE {}) AS any").format(
        table(spec.table),
        source_query(spec),
        matches(spec),
        eligible(spec, {c.name: c.name for c in spec.columns}),
    )
    return bool(one(conn, query, ())["any"])


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
        with conn.transaction():
            row = conn.execute(
                query,
                {"first": first, "last": last, "most": limit, "run": run.id, "sweep": sweep},
            ).fetchone()
            rows = row["row_count"] if row else 0
            page = first if rows == limit else last
            owned = conn.execute(
                "UPDATE pgrunbook.run SET sweep = %s, next_page = %s, seen_at = clock_timestamp()"
                " WHERE id = %s AND execution = %s",
                (sweep, page, run.id, run.execution),
            ).rowcount
            if not owned:
                ledger.require_owner(conn, run)
            return rows, page

    return with_lock_retries(
        conn, once, table_oid=info.oid, what=f"Backfill of {spec.table}", tries=spec.lock_tries
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


def _outcome(
    at: Progress, *, changed: int, done: bool, reverting: bool = False, **more: Any
) -> dict[str, Any]:
    outcome = {
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
    return {**outcome, "progress": line(outcome, reverting=reverting)}


def _pages_per_batch(spec: Spec, info: TableInfo) -> int:
    rows_per_page = max(info.rows_estimate / info.pages, 1.0) if info.pages else 1.0
    return max(round(spec.batch_rows / rows_per_page), 1)


def _any(conditions: Iterable[Composable]) -> Composed:
    return SQL("({})").format(SQL(" OR ").join(conditions))
