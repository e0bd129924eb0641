# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the backfill back exactly: just the rows in the journal, and only as the run left them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from psycopg.sql import SQL, Composed, Identifier, Literal

from .. import catalog, ledger
from ..catalog import TableInfo, surroundings
from ..core import printable
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.locks import with_lock_retries
from ..core.spec import Spec
from ..core.sql import comma, name, render, table, text
from ..ledger import Progress, taken_back
from ..ledger.filled import present_columns, require_key
from . import failover, meanwhile, probe_query, slice, workers
from .batch import BatchResult
from .eligibility import any_of
from .failover import Lost, Seen
from .outcome import measure, record, result
from .result import GivenBack, SliceResult
from .slice import Slice

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE on the rows of one batch"


def revert_slice(
    conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool, seen: Seen | None = None
) -> SliceResult:
    """Take back this run's batches, the latest first, for about slice_seconds. seen is what earlier
    slices, and earlier tries of this one, have seen to be taken back.

    A row goes back to NULL in just the columns that the run filled, if all of them still hold
    what the run wrote, byte for byte. Rows changed or deleted since, and rows in which a trigger
    puts a value back, are left alone, and some of them are listed. A column that is there no more
    is passed over and named.
    """
    ledger.get_run(conn, run.id)
    info = catalog.inspect(conn, spec.table)
    require_key(conn, spec, info, run.id)
    names = present_columns(conn, spec, info, run.id)
    before = ledger.progress(conn, run.id)
    gone = columns_gone(spec, names) if before.rows else []
    if dry or not before.rows:
        return _dry(conn, spec, run, before, info, names, gone)
    plan = ledger.approved_plan(conn, run, "rollback")
    surroundings.require_unchanged(conn, spec, info, plan)
    if not names:
        return _dry(conn, spec, run, before, info, names, gone)
    queries = [render(revert_statement(spec, names, info))]
    ledger.require_statements(plan, run, queries)
    totals, seen = taken_back.totals(conn, run.id), seen or Seen()
    lost = failover.note(conn, run, seen, before, reverting=True)
    with meanwhile.explained(conn, spec, run, plan):
        current = _take_back(conn, spec, run, info, names, seen)
    return _end(conn, current, totals, lost, gone, queries)


def _end(
    conn: Connection,
    current: Slice,
    totals: taken_back.Totals,
    lost: Lost,
    gone: list[str],
    queries: list[str],
) -> SliceResult:
    """The result of a slice that has ended, once it is recorded. totals are those before it."""
    run_id = current.run.id
    after, now = ledger.progress(conn, run_id), taken_back.totals(conn, run_id)
    found = result(
        after,
        changed=now.given_back - totals.given_back,
        done=after.rows == 0,
        reverting=True,
        measured=measure(current, done=after.rows == 0, reverting=True),
        given_back=_given_back(conn, run_id, gone),
        lost=lost,
        queries=queries,
    )
    return record(conn, current, found)


def _dry(
    conn: Connection,
    spec: Spec,
    run: ledger.Run,
    at: Progress,
    info: TableInfo,
    names: Mapping[str, str],
    gone: list[str],
) -> SliceResult:
    """What a rollback would do, or that it has nothing to do."""
    possible = bool(names and at.rows)
    return result(
        at,
        changed=taken_back.rows_to_give_back(conn, run.id, len(spec.key)) if possible else 0,
        done=True,
        reverting=True,
        given_back=_given_back(conn, run.id, gone),
        queries=[render(revert_statement(spec, names, info))] if possible else [],
    )


def _take_back(
    conn: Connection,
    spec: Spec,
    run: ledger.Run,
    info: TableInfo,
    names: Mapping[str, str],
    seen: Seen,
) -> Slice:
    """Take batches back, in threads, for a slice."""
    query = revert_statement(spec, names, info)
    triggers = catalog.update_triggers(conn, info, names.values())
    taken_back.merge_entries(conn, run.id, len(spec.key), len(spec.columns))
    recheck = _recheck_statement(spec, names, info) if triggers else None
    current = slice.start(
        conn,
        spec,
        run,
        interleaved=False,
        probe=probe_query.compiled(spec, info),
        seen=seen,
        reverting=True,
    )
    workers.run(
        conn, current, lambda worker: _work(worker, current, info, query, recheck), spec.workers
    )
    return current


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
    """The triggers that giving the rows back would fire. Raises RunbookError with those that are
    neither among the acknowledged nor among those that the phase acknowledges."""
    found = catalog.update_triggers(conn, info, names.values())
    missing = [t for t in found if t not in {*spec.acknowledged, *acknowledged}]
    if missing:
        told = f"Trigger {', '.join(map(repr, missing))} of {spec.table}"
        raise RunbookError(
            f"{told} would fire for every row that is given back. It may put values back, and "
            "nothing takes back what else it does. Nothing was changed. Next step: find out what "
            "it does; disable it, or if it may fire, pass "
            f"{printable.extra_variable('rollback_acknowledged', [*acknowledged, *missing])}."
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
        " {entries}"
        "), rewritten AS ("
        " SELECT count(*) AS rows FROM entry, {table} t WHERE {keys} AND {unchanged}"
        " AND t.xmin::text::int8 <> entry.xid & 4294967295"
        "), reverted AS ("
        " UPDATE {table} t SET {sets} FROM entry WHERE {keys} AND {unchanged}"
        " RETURNING entry.n, NOT {kept} AS back"
        ") {take_back}"
    ).format(
        entries=taken_back.ENTRIES,
        take_back=taken_back.TAKE_BACK,
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
        " SELECT count(*)::int AS rows, jsonb_agg(entry.e) AS entries FROM ({entries}) entry,"
        " {table} t WHERE {keys} AND {kept}"
        ") {count}"
    ).format(
        entries=taken_back.ENTRIES_GIVEN_BACK,
        count=taken_back.COUNT_AS_PUT_BACK,
        table=table(spec.table),
        keys=_keys(spec, info),
        kept=_kept(_written(spec, names)),
    )


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
        SQL("(entry.e ->> {} IS NOT NULL AND t.{} IS DISTINCT FROM NULL)").format(n, c)
        for c, n in written
    )


def _given_back(conn: Connection, run_id: str, gone: Sequence[str]) -> GivenBack:
    """What a result tells of the rows of all slices so far."""
    left, totals = taken_back.left_alone(conn, run_id), taken_back.totals(conn, run_id)
    return GivenBack(
        rows_left_alone=left.rows,
        left_alone=left.entries,
        rows_put_back=totals.put_back,
        rows_rewritten=totals.rewritten,
        columns_gone=tuple(gone),
    )


def _work(
    conn: Connection, current: Slice, info: TableInfo, query: Composed, recheck: Composed | None
) -> None:
    """Take batches back until there is none, or no time, but at least one."""

    def once() -> BatchResult | None:
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
) -> BatchResult | None:
    """Take the latest batch that nobody else is at back, in one transaction, and where triggers
    fire look at its rows once all of them have. None when there is none left."""
    started = time.monotonic()
    with conn.transaction():
        conn.execute("SET LOCAL statement_timeout = 0")
        batch = taken_back.lock_latest(conn, run)
        if batch is None:
            return None
        conn.execute(query, {"batch": batch.id})
        if recheck:
            conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
            conn.execute(recheck, {"batch": batch.id})
    return BatchResult(batch.rows, 0, (time.monotonic() - started) * 1000, batch.control)
