# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the backfill back exactly: just the rows in the journal, and only as the run left them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from .. import catalog, ledger
from ..catalog import TableInfo, surroundings
from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.locks import with_lock_retries
from ..core.spec import Spec
from ..core.sql import comma, name, render, table, text
from ..ledger import schema
from ..ledger.filled import present_columns, require_key
from . import workers
from .backfill import outcome, progress, slice_outcome
from .batch import Done
from .eligibility import any_of
from .workers import Slice

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE on the rows of one batch"
MOST_LEFT_ALONE = 100
MOST_SHOWN = 200  # characters of a value of a row that was left alone


def revert_slice(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back this run's batches, the latest first, for about slice_seconds.

    A row goes back to NULL in just the columns that the run filled, if all of them still hold
    what the run wrote, byte for byte. Rows changed or deleted since, and rows in which a trigger
    puts a value back, are left alone and listed in left_alone, at most MOST_LEFT_ALONE of them. A
    column that is there no more is passed over and named in columns_gone.
    """
    ledger.get_run(conn, run.id)
    info = catalog.inspect(conn, spec.table)
    require_key(conn, spec, info, run.id)
    names = present_columns(conn, spec, info, run.id)
    before, totals = progress(conn, run.id), _totals(conn, run.id)
    query = revert_statement(spec, names, info) if names and before.rows else None
    queries = [render(query)] if query else []
    more: dict[str, Any] = {
        "reverting": True,
        "queries": queries,
        "columns_gone": columns_gone(spec, names) if before.rows else [],
    }
    if dry or query is None:
        rows = _listed(conn, spec, run.id) if query else 0
        return outcome(before, changed=rows, done=True, **more, **_told(conn, run.id, totals))
    plan = ledger.approved_plan(conn, run, "rollback")
    ledger.require_statements(plan, run, queries)
    surroundings.require_unchanged(conn, spec, info, plan)
    triggers = catalog.update_triggers(conn, info, names.values())
    _merge(conn, spec, run.id)
    recheck = _recheck_statement(spec, names, info) if triggers else None
    current = workers.start(conn, spec, run, interleaved=False)
    workers.supervise(
        conn, current, lambda worker: _work(worker, current, info, query, recheck), spec.workers
    )
    after, now = progress(conn, run.id), _totals(conn, run.id)
    return slice_outcome(
        conn,
        current,
        before,
        changed=now["given_back"] - totals["given_back"],
        done=after.rows == 0,
        **more,
        **_told(conn, run.id, now),
    )


def columns_gone(spec: Spec, names: Mapping[str, str]) -> list[str]:
    """The columns of the phase that are not among those that are still there."""
    return [c.name for c in spec.columns if c.name not in names]


def require_triggers(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    names: Mapping[str, str],
    acknowledged: Collection[str],
) -> list[str]:
    """The triggers that giving the rows back would fire. Raises RunbookError where one of them is
    neither among the acknowledged nor among those that the phase acknowledges."""
    found = catalog.update_triggers(conn, info, names.values())
    for trigger in found:
        if trigger not in {*spec.acknowledged, *acknowledged}:
            raise RunbookError(
                f"Trigger {trigger!r} of {spec.table} would fire for every row that is given back. "
                "It may put values back, and nothing takes back what else it does. Nothing was "
                "changed. Next step: find out what it does; disable it, or if it may fire, pass "
                f'-e \'{{"rollback_acknowledged": ["{trigger}"]}}\'.'
            )
    return found


def revert_statement(spec: Spec, names: Mapping[str, str], info: TableInfo) -> Composed:
    """The statement that takes one batch back; its parameter is the batch's id.

    names has the columns that are still there. A row whose transaction id is not the batch's was
    rewritten by somebody since; it is given back all the same, and counted.
    """
    written = _written(spec, names)
    return SQL(
        "WITH entry AS ("
        " SELECT o.n, o.e, b.xid FROM pgrunbook.batch b,"
        " jsonb_array_elements(coalesce(b.merged, b.journal)) WITH ORDINALITY o(e, n)"
        " WHERE b.id = %(batch)s"
        "), rewritten AS ("
        " SELECT count(*) AS rows FROM entry, {table} t WHERE {keys} AND {unchanged}"
        " AND t.xmin::text::int8 <> entry.xid & 4294967295"
        "), reverted AS ("
        " UPDATE {table} t SET {sets} FROM entry WHERE {keys} AND {unchanged}"
        " RETURNING entry.n, NOT {kept} AS back"
        ") UPDATE pgrunbook.batch SET reverted_at = clock_timestamp(),"
        " given_back = (SELECT count(*) FROM reverted WHERE back),"
        " put_back = (SELECT count(*) FROM reverted WHERE NOT back),"
        " rewritten = (SELECT rows FROM rewritten), left_alone = ("
        " SELECT jsonb_agg(e ORDER BY n) FROM entry"
        " WHERE n NOT IN (SELECT n FROM reverted WHERE back))"
        " WHERE id = %(batch)s"
    ).format(
        table=table(spec.table),
        sets=comma(
            SQL("{c} = CASE WHEN entry.e ->> {n} IS NULL THEN t.{c} END").format(c=c, n=n)
            for c, n in written
        ),
        keys=_keys(spec, info),
        unchanged=_unchanged(spec, written),
        kept=_kept(written),
    )


def statements(spec: Spec, names: Mapping[str, str], info: TableInfo) -> list[Composed]:
    """What one batch is taken back with, that of a table with triggers included."""
    return [revert_statement(spec, names, info), _recheck_statement(spec, names, info)]


def _recheck_statement(spec: Spec, names: Mapping[str, str], info: TableInfo) -> Composed:
    """What corrects the figures of a batch where a trigger has put values back after the statement
    that took them away. It only reads the table."""
    return SQL(
        "WITH kept AS ("
        " SELECT count(*)::int AS rows, jsonb_agg(entry.e) AS entries FROM (SELECT o.e"
        " FROM pgrunbook.batch b,"
        " jsonb_array_elements(coalesce(b.merged, b.journal)) o(e) WHERE b.id = %(batch)s"
        " AND o.e NOT IN (SELECT jsonb_array_elements(b.left_alone))) entry, {table} t"
        " WHERE {keys} AND {kept}"
        ") UPDATE pgrunbook.batch b SET given_back = b.given_back - k.rows,"
        " put_back = b.put_back + k.rows,"
        " left_alone = coalesce(b.left_alone, '[]') || k.entries"
        " FROM kept k WHERE b.id = %(batch)s AND k.rows > 0"
    ).format(table=table(spec.table), keys=_keys(spec, info), kept=_kept(_written(spec, names)))


def _written(spec: Spec, names: Mapping[str, str]) -> list[tuple[Identifier, Literal]]:
    """The columns that are still there, and where an entry of the journal has their values."""
    width = len(spec.key)
    return [
        (name(names[c.name]), Literal(width + n))
        for n, c in enumerate(spec.columns)
        if c.name in names
    ]


def _keys(spec: Spec, info: TableInfo) -> Composed:
    return SQL(" AND ").join(
        SQL("t.{} = (entry.e ->> {})::{}").format(name(k), Literal(n), text(info.columns[k].type))
        for n, k in enumerate(spec.key)
    )


def _unchanged(spec: Spec, written: list[tuple[Identifier, Literal]]) -> Composed:
    """The condition that a row is the one in the journal, byte for byte, whatever its collation
    takes for equal, and that there is something to take back."""
    keys = [
        SQL('t.{}::text COLLATE "C" = entry.e ->> {}').format(name(k), Literal(n))
        for n, k in enumerate(spec.key)
    ]
    values = [
        SQL('(entry.e ->> {n} IS NULL OR t.{c}::text COLLATE "C" = entry.e ->> {n})').format(
            c=c, n=n
        )
        for c, n in written
    ]
    some = any_of(SQL("entry.e ->> {} IS NOT NULL").format(n) for _, n in written)
    return SQL(" AND ").join(
        [*keys, *values, *([some] if len(written) < len(spec.columns) else [])]
    )


def _kept(written: list[tuple[Identifier, Literal]]) -> Composed:
    """The condition that a row still has a value where the run filled one."""
    return any_of(
        SQL("(entry.e ->> {} IS NOT NULL AND t.{} IS NOT NULL)").format(n, c) for c, n in written
    )


def _key(spec: Spec) -> Composable:
    """The key in an entry of the journal, as jsonb."""
    parts = [SQL("o.e -> {}").format(Literal(n)) for n in range(len(spec.key))]
    return parts[0] if len(parts) == 1 else SQL("jsonb_build_array({})").format(comma(parts))


def _listed(conn: Connection, spec: Spec, run_id: str) -> int:
    """How many rows the journal of a run lists that were not taken back; a row that was filled
    twice counts once."""
    merged = SQL("coalesce(b.merged, b.journal)") if _has_figures(conn) else SQL("b.journal")
    query = SQL(
        "SELECT count(*)::int8 AS rows FROM (SELECT FROM pgrunbook.batch b,"
        " jsonb_array_elements({}) o(e) WHERE b.run_id = %s AND b.reverted_at IS NULL"
        " GROUP BY {}) k"
    ).format(merged, _key(spec))
    rows: int = one(conn, query, (run_id,))["rows"]
    return rows


def _merge(conn: Connection, spec: Spec, run_id: str) -> None:
    """Before anything is taken back: where the run filled a row more than once, because somebody
    took the value away in between, keep one entry of it, the latest, with the latest value of each
    column. The journal stays as it was written; a batch that it differs in has the rest in merged.
    """
    parts = {"key": _key(spec), "run": Literal(run_id)}
    if not one(conn, SQL(_TWICE).format(**parts), ())["any"]:
        return
    latest = [
        SQL(
            "(array_agg(o.e ->> {n} ORDER BY o.id DESC) FILTER (WHERE o.e ->> {n} IS NOT NULL))[1]"
        ).format(n=Literal(n))
        for n in range(len(spec.key) + len(spec.columns))
    ]
    conn.execute(SQL(_MERGE).format(**parts, latest=comma(latest)), ())


_TWICE = """
SELECT NOT EXISTS (SELECT FROM pgrunbook.batch WHERE run_id = {run} AND reverted_at IS NOT NULL)
   AND EXISTS (SELECT FROM pgrunbook.batch b, jsonb_array_elements(b.journal) o(e)
               WHERE b.run_id = {run} GROUP BY {key} HAVING count(*) > 1) AS any
"""

_MERGE = """
WITH entry AS (
    SELECT b.id, o.n, o.e, {key} AS key
    FROM pgrunbook.batch b, jsonb_array_elements(b.journal) WITH ORDINALITY o(e, n)
    WHERE b.run_id = {run}
), twice AS (
    SELECT key, max(o.id) AS id, jsonb_build_array({latest}) AS e
    FROM entry o WHERE key IN (SELECT key FROM entry GROUP BY key HAVING count(*) > 1)
    GROUP BY key
), kept AS (
    SELECT o.id, coalesce(jsonb_agg(coalesce(w.e, o.e) ORDER BY o.n)
                          FILTER (WHERE w.key IS NULL OR w.id = o.id), '[]') AS entries
    FROM entry o LEFT JOIN twice w ON w.key = o.key
    WHERE o.id IN (SELECT x.id FROM entry x JOIN twice USING (key)) GROUP BY o.id
)
UPDATE pgrunbook.batch b SET merged = k.entries FROM kept k WHERE k.id = b.id
"""


def _has_figures(conn: Connection) -> bool:
    """Whether the ledger has the figures of batches that were taken back: an older one gets them
    with the next approval."""
    return schema.version(conn) >= 2


def _totals(conn: Connection, run_id: str) -> dict[str, int]:
    """How many rows of a run were given back, had a value put back by a trigger, and had been
    rewritten by somebody."""
    if not _has_figures(conn):
        return {"given_back": 0, "put_back": 0, "rewritten": 0}
    return one(
        conn,
        "SELECT coalesce(sum(given_back), 0)::int8 AS given_back,"
        " coalesce(sum(put_back), 0)::int8 AS put_back,"
        " coalesce(sum(rewritten), 0)::int8 AS rewritten"
        " FROM pgrunbook.batch WHERE run_id = %s",
        (run_id,),
    )


def _told(conn: Connection, run_id: str, totals: Mapping[str, int]) -> dict[str, Any]:
    """What a result tells of the rows of all slices so far."""
    left = _left_alone(conn, run_id)
    return {
        "rows_left_alone": left["rows"],
        "left_alone": left["keys"],
        "rows_put_back": totals["put_back"],
        "rows_rewritten": totals["rewritten"],
    }


def _left_alone(conn: Connection, run_id: str) -> dict[str, Any]:
    """How many rows a rollback of the run did not give back, and the journal entries of some, their
    values cut to MOST_SHOWN characters."""
    return one(
        conn,
        "SELECT count(*)::int8 AS rows, coalesce(jsonb_agg((SELECT jsonb_agg("
        "   CASE WHEN length(v) > %(shown)s THEN left(v, %(shown)s) || '...' ELSE v END ORDER BY i)"
        "   FROM jsonb_array_elements_text(e) WITH ORDINALITY x(v, i)))"
        "  FILTER (WHERE n <= %(most)s), '[]') AS keys"
        " FROM (SELECT e, row_number() OVER () AS n FROM pgrunbook.batch b,"
        "       jsonb_array_elements(b.left_alone) e WHERE b.run_id = %(run)s) l",
        {"shown": MOST_SHOWN, "most": MOST_LEFT_ALONE, "run": run_id},
    )


def _work(
    conn: Connection, current: Slice, info: TableInfo, query: Composed, recheck: Composed | None
) -> None:
    """Take batches back until there is none, or no time, but at least one."""

    def once() -> Done | None:
        return _revert_batch(conn, current.run, query, recheck)

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


def _revert_batch(
    conn: Connection, run: ledger.Run, query: Composed, recheck: Composed | None
) -> Done | None:
    """Take the latest batch that nobody else is at back, in one transaction, and where triggers
    fire look at its rows once all of them have. None when there is none left."""
    started = time.monotonic()
    with conn.transaction():
        conn.execute("SET LOCAL statement_timeout = 0")
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
        if recheck:
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
            conn.execute(recheck, {"batch": batch["id"]})
    return Done(
        rows=batch["row_count"],
        hot=0,
        milliseconds=(time.monotonic() - started) * 1000,
        control=batch["control"],
        control_by=batch["control_by"],
        rows_per_second=batch["rows_per_second"],
    )
