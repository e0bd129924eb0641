# SPDX-License-Identifier: GPL-3.0-or-later
"""Try the index that would serve a query which misses its speed-up: build it concurrently, measure
the query with it, and drop it again or keep it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import psycopg

from .. import catalog, ledger
from ..catalog import TableInfo
from ..core.connection import STATEMENT_TIMEOUT, Connection, one
from ..core.errors import unanswered
from ..core.locks import run_patiently, with_lock_retries
from ..core.spec import Query, Spec, Table
from ..core.sql import text
from ..core.values import plain, read
from ..core.window import window_ahead, window_closed
from ..ddl import index_plan, indexes
from ..ddl.index_advice import IndexAdvice, advise, drop
from ..ddl.schema_change import SchemaChange
from ..ddl.step import Step
from . import query_gates
from .gate import Gate
from .query_pair import Advice, QueryPair, Trial, met

NOTES = {
    "try": "each is built only if its query misses its speed-up; it is measured and dropped again",
    "keep": "each is built only if its query misses its speed-up; it is measured, and kept if the "
    "query then meets its speed-up, else dropped again",
}


@dataclass(frozen=True, kw_only=True)
class Trials(SchemaChange):
    """What a step of trials did to the indexes, the pairs as the trials left them, and the gate of
    each."""

    pairs: tuple[QueryPair, ...] = ()
    checks: tuple[Gate, ...] = ()


def planned(conn: Connection, spec: Spec, info: TableInfo) -> list[IndexAdvice]:
    """The indexes that trials could build once the run has done its work. There are none where the
    phase only estimates, nor on a partitioned table, where PostgreSQL drops none without blocking
    others."""
    if spec.index_advice == "estimate" or info.partitioned:
        return []
    left = {trial.index for trial in ledger.open_trials(conn, str(spec.table))}
    after = index_plan.afterwards(conn, spec, info, left)
    found = advise(conn, spec, after, {column.name: column.name for column in spec.columns})
    return list({advice.name: advice for advice in found if advice}.values())


def left_behind(conn: Connection, spec: Spec, info: TableInfo) -> list[str]:
    """The statements that drop what broken trials, of any run, left on the table."""
    trials = ledger.open_trials(conn, str(spec.table))
    return [drop(spec, trial.index) for trial in trials if trial.index in info.indexes]


def steps_before(left: Sequence[str]) -> list[Step]:
    """The plan's step that drops what left_behind() found; none where that is nothing."""
    step = Step(
        "index_left",
        "Drop indexes that a broken trial left behind",
        statements=tuple(left),
        undo=(),
        lock=indexes.DROP_LOCK,
        needed=True,
    )
    return [step] if left else []


def steps(spec: Spec, tried: Sequence[IndexAdvice]) -> list[Step]:
    """The plan's step of the trials; none where planned() found nothing."""
    step = Step(
        "index_trial",
        "Try an index where a query misses its speed-up",
        statements=tuple(advice.sql for advice in tried),
        undo=tuple(advice.undo for advice in tried),
        lock=indexes.BUILD_LOCK,
        needed=True,
        note=NOTES.get(spec.index_advice, ""),
    )
    return [step] if tried else []


def seconds(tried: Sequence[IndexAdvice]) -> float:
    """About how many seconds the trials take, if every query misses."""
    return round(sum(advice.seconds for advice in tried), 1)


def apply(
    conn: Connection, spec: Spec, run: ledger.Run, pairs: Sequence[QueryPair], *, dry: bool
) -> Trials:
    """Try the index of each query that missed; when dry, only tell which would be built.

    pairs are those that query_gates.compare() measured. Where an index was kept, the pair that is
    returned is the one measured with it.
    """
    info = catalog.inspect(conn, spec.table)
    found = advise(conn, spec, info, catalog.present_names(spec, info))
    missed = {n: a for n, pair in enumerate(pairs) if pair.proposal and (a := found[n])}
    after, queries = list(pairs), []
    for advice in {advice.name: advice for advice in missed.values()}.values():
        served = [n for n, other in missed.items() if other.name == advice.name]
        barred = _barred(spec, info)
        if barred:
            for n in served:
                after[n] = replace(pairs[n], proposal=Advice(**vars(advice), not_tried=barred))
            continue
        queries.append(advice.sql)
        if dry:
            queries += [advice.undo] if spec.index_advice == "try" else []
            continue
        ledger.require_approval(conn, run, "plan", [advice.sql])
        tried = _try(conn, spec, info, run, advice, [spec.queries[n] for n in served])
        for n, measured in zip(served, tried.measured, strict=True):
            after[n] = _with_trial(spec, pairs[n], advice, tried, measured)
        queries += [] if tried.kept else [advice.undo]
    schema = catalog.inspect(conn, spec.table).schema()
    changed = SchemaChange.of(spec.table, "indexes", info, schema, queries)
    return Trials(**vars(changed), pairs=tuple(after), checks=query_gates.gates(spec, after))


def drop_left_behind(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> Trials:
    """Drop what broken trials, of any run, left on the table; when dry, only tell what."""
    info = catalog.inspect(conn, spec.table)
    statements = left_behind(conn, spec, info)
    if not dry and statements:
        ledger.require_approval(conn, run, "plan", statements)
    trials = ledger.open_trials(conn, str(spec.table))
    if not dry and trials and ledger.has_run(conn, run.id):
        ledger.require_owner(conn, run)
        for trial in trials:
            _drop(conn, spec, trial.run_id, trial.index)
    schema = info.schema()
    left = {trial.index for trial in trials}
    schema["indexes"] = {n: d for n, d in schema["indexes"].items() if n not in left}
    changed = SchemaChange.of(spec.table, "indexes", info, schema, statements)
    return Trials(**vars(changed))


def _barred(spec: Spec, info: TableInfo) -> str:
    """Why nothing is to be built now; empty where it may."""
    if info.partitioned:
        return "PostgreSQL drops none of a partitioned table without blocking others"
    if window_ahead(spec):
        return "the maintenance window has not opened yet"
    return "the maintenance window has ended" if window_closed(spec) else ""


@dataclass(frozen=True)
class _Tried:
    """An index that was built: its size, how long that took, whether it was kept, and a pair for
    each query that it serves, measured with it."""

    bytes: int
    seconds: float
    kept: bool
    measured: list[QueryPair]


def _try(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    run: ledger.Run,
    advice: IndexAdvice,
    queries: Sequence[Query],
) -> _Tried:
    """Build an index, measure the queries with it, and drop or keep it. Whatever fails meanwhile,
    the index goes."""
    index = advice.name

    def once() -> _Tried:
        ledger.change_made(conn, run.id, ledger.INDEX_TRIAL, old="", new=index)
        try:
            started = time.monotonic()
            run_patiently(conn, text(advice.sql))
            seconds = round(time.monotonic() - started, 3)
            measured = _measure(conn, spec, info, queries)
            size = _size(conn, spec, index)
            kept = spec.index_advice == "keep" and any(_meets(spec, p) for p in measured)
            if kept:
                ledger.trial_kept(conn, run.id, index)
            else:
                _drop(conn, spec, run.id, index)
        except psycopg.errors.DuplicateTable:
            ledger.change_undone(conn, run.id, ledger.INDEX_TRIAL, old="", new=index)
            raise
        except BaseException as error:
            if not conn.closed and not unanswered(error):
                _drop(conn, spec, run.id, index)
            raise
        return _Tried(size, seconds, kept, measured)

    return with_lock_retries(conn, once, table_oid=info.oid, what=advice.sql, tries=2)


def _drop(conn: Connection, spec: Spec, run_id: str, index: str) -> None:
    """Drop an index that a run tried, if it is there, and record that it is gone."""
    if index in catalog.inspect(conn, spec.table).indexes:
        run_patiently(conn, text(drop(spec, index)))
    ledger.change_undone(conn, run_id, ledger.INDEX_TRIAL, old="", new=index)


def _measure(
    conn: Connection, spec: Spec, info: TableInfo, queries: Sequence[Query]
) -> list[QueryPair]:
    with _only_reading(conn, spec):
        return [query_gates.measure_pair(conn, spec, info, query) for query in queries]


@contextlib.contextmanager
def _only_reading(conn: Connection, spec: Spec) -> Iterator[None]:
    """One READ ONLY transaction with bounded waits, as the queries were measured in before."""
    with conn.transaction():
        conn.execute("SET TRANSACTION READ ONLY")
        for setting, value in (
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", f"{spec.lock_timeout_ms}ms"),
        ):
            conn.execute("SELECT set_config(%s, %s, true)", (setting, value))
        yield


def _size(conn: Connection, spec: Spec, index: str) -> int:
    found = catalog.find_relation(conn, Table(spec.table.schema, index))
    if found is None:
        raise AssertionError("it was built just now")
    size: int = one(conn, "SELECT pg_relation_size(%s::oid) AS bytes", (found.oid,))["bytes"]
    return size


def _meets(spec: Spec, pair: QueryPair) -> bool:
    return met(spec, pair)[0] and pair.equal


def _with_trial(
    spec: Spec, before: QueryPair, advice: IndexAdvice, tried: _Tried, measured: QueryPair
) -> QueryPair:
    """The pair with what its trial found, and with its figures where the index was kept."""
    trial = {
        **plain(measured),
        "bytes": tried.bytes,
        "seconds": tried.seconds,
        "kept": tried.kept,
        "met": _meets(spec, measured),
        "without": plain(before),
    }
    return replace(
        measured if tried.kept else before,
        proposal=Advice(**vars(advice), tried=read(Trial, trial)),
    )
