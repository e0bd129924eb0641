# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the phase's columns from the source, in batches that never stand in anybody's way.

A first pass goes over the whole table: in interleaved passes over chunks of pages, over page
ranges, or in the order of the key. Rows that were locked, moved or arrived meanwhile are caught by
catch-up passes. A value is never overwritten, and nothing is eligible once the work is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from .. import catalog, ledger
from ..catalog import TableInfo, surroundings
from ..core.connection import Connection
from ..core.locks import patient
from ..core.spec import Spec
from ..core.sql import literal
from ..core.values import read
from ..core.window import require_open_window
from ..ledger import Progress, checkpoint
from ..ledger.filled import require_the_filled
from . import failover, meanwhile, probe_query, refused_rows, slice, workers
from .batch_size import RowLimit
from .counting import count
from .eligibility import any_left
from .equality import rules
from .failover import Lost, Seen
from .outcome import measure, record, result
from .result import SliceResult
from .sample import sample, sample_text
from .scan import KeyRoute, PageRoute, Route
from .slice import Slice
from .statements import statements, vacuum_statement
from .strategy import Strategy
from .worker import Worker

MAX_ROUNDS = 6  # passes over the table, the first one included
FIRST_WAIT_FOR_ROWS = 1.0  # seconds, doubled with each catch-up pass that found only locked rows
SHOWN_ROWS = 100  # of a dry run
MOST_PARTLY_FILLED = 10.0
"""Per cent of a column's values that may be there before the run for its first pass to fill empty
rows only, at less cost; a catch-up pass fills the others."""


def dry_run(conn: Connection, spec: Spec, run: ledger.Run, *, canary: bool) -> SliceResult:
    """What the backfill would do, with some rows before and after. Writes nothing."""
    info = catalog.inspect(conn, spec.table)
    eligible_rows = count(conn, spec, info).rows_eligible
    at = Progress(rows_eligible=eligible_rows)
    if ledger.has_run(conn, run.id):
        at = ledger.progress(conn, run.id)
    rows = min(eligible_rows, max(spec.canary_rows - at.rows, 0)) if canary else eligible_rows
    if not rows:
        return result(at, changed=0, done=True)
    shown = sample(conn, spec, info, rules(conn, spec, info), SHOWN_ROWS)
    return result(
        at,
        changed=rows,
        done=True,
        queries=statements(spec, info, _like(spec)),
        sample=sample_text(shown),
    )


def _like(spec: Spec) -> Strategy:
    """A strategy whose batches have the same statement as the one that will be chosen."""
    return Strategy("keyset" if spec.strategy == "keyset" else "ranges")


def run_slice(
    conn: Connection, spec: Spec, run: ledger.Run, *, canary: bool, seen: Seen | None = None
) -> SliceResult:
    """Work for about slice_seconds, or until nothing is left to do. seen is what earlier slices,
    and earlier tries of this one, have seen to be committed.

    A canary stops when the run has changed canary_rows rows; all else needs the approval that
    follows the canary. Where there is nothing to do, neither ledger nor approval is asked for.
    Raises RunbookError without an approval, or when the maintenance window is over.
    """
    info = catalog.inspect(conn, spec.table)
    if not ledger.has_run(conn, run.id) and not count(conn, spec, info).rows_eligible:
        return result(Progress(), changed=0, done=True)
    scope = "plan" if canary else "backfill"
    plan = ledger.approved_plan(conn, run, scope)
    strategy = read(Strategy, plan["strategy"])
    queries = statements(spec, info, strategy)
    surroundings.require_unchanged(conn, spec, info, plan)
    ledger.require_statements(plan, run, queries)
    require_the_filled(conn, spec, info, run.id)
    require_open_window(spec)
    before, seen = ledger.progress(conn, run.id), seen or Seen()
    lost = failover.note(conn, run, seen, before)
    meanwhile.require_rows(spec, info, run, before)
    interleaved = strategy.passes > 1 and not canary
    probe = probe_query.compiled(spec, info)
    current = slice.start(conn, spec, run, interleaved=interleaved, probe=probe, seen=seen)
    current.rows_aside = ledger.refused(conn, run.id).rows_refused > 0
    with meanwhile.explained(conn, spec, run, plan):
        if canary:
            done = _canary(conn, current, info, strategy, max(spec.canary_rows - before.rows, 0))
        else:
            done = _passes(conn, current, info, strategy, direct=_rows_are_empty(conn, run))
    if done and not canary:
        _complete(conn, spec, run, plan)
    return _end(conn, current, lost, done=done, queries=queries)


def _complete(conn: Connection, spec: Spec, run: ledger.Run, plan: Mapping[str, Any]) -> None:
    """Complete the last slice: no other one follows that would compare what the plan was made
    on."""
    info = meanwhile.require_as_approved(conn, spec, plan)
    meanwhile.require_rows(spec, info, run, ledger.progress(conn, run.id))
    _vacuum(conn, spec, run)


def _end(
    conn: Connection, current: Slice, lost: Lost, *, done: bool, queries: list[str]
) -> SliceResult:
    """The result of a slice that has ended, once it is recorded."""
    after = ledger.progress(conn, current.run.id)
    found = result(
        after,
        changed=max(after.rows - (current.seen.began or 0), 0),
        done=done,
        measured=measure(current, done=done),
        refused=ledger.refused(conn, current.run.id),
        lost=lost,
        queries=queries,
    )
    return record(conn, current, found)


def _canary(
    conn: Connection, current: Slice, info: TableInfo, strategy: Strategy, most: int
) -> bool:
    """Fill that many rows, in one thread, with the indexes in place. True when it is done."""
    route = _route(conn, current, info, strategy)
    limit = RowLimit(current.spec.batch_rows, left=most)
    worker = Worker(current, info, strategy, route, sweep=0, limit=limit)
    if most:
        workers.run(conn, current, worker.work, 1, route.checkpoint)
    return limit.reached() or route.exhausted()


def _rows_are_empty(conn: Connection, run: ledger.Run) -> bool:
    """Whether hardly a row had some of the values before the run and lacks others: no column had
    more than MOST_PARTLY_FILLED of its values."""
    coverage = ledger.coverage_before(conn, run.id)
    return bool(coverage) and max(coverage.values()) <= MOST_PARTLY_FILLED


def _passes(
    conn: Connection, current: Slice, info: TableInfo, strategy: Strategy, *, direct: bool
) -> bool:
    """Go on with the pass over the table that the run is in, and begin the next ones, as long as
    there is time. direct is whether the batches of the first pass may be direct. True when no row
    is left, or the last pass is over."""
    while True:
        at = ledger.progress(conn, current.run.id)
        route = _route(conn, current, info, strategy)
        limit = RowLimit(current.spec.batch_rows)
        worker = Worker(
            current,
            info,
            strategy,
            route,
            sweep=at.sweep,
            limit=limit,
            eligible=at.rows_eligible,
            direct=direct,
        )
        workers.run(conn, current, worker.work, current.spec.workers, route.checkpoint)
        if not route.exhausted():
            return False
        found = ledger.progress(conn, current.run.id).rows_this_sweep
        if at.sweep + 1 >= MAX_ROUNDS or not _any_left(conn, current, info):
            return True
        if at.sweep and not found:
            current.sleep(FIRST_WAIT_FOR_ROWS * 2 ** (at.sweep - 1))
        checkpoint.begin_pass(conn, current.run.id, at.sweep + 1)
        if not current.time_left():
            return False
        info = catalog.inspect(conn, current.spec.table)


def _any_left(conn: Connection, current: Slice, info: TableInfo) -> bool:
    """Whether a row could still be filled, apart from those that are set aside."""
    among = refused_rows.not_aside(current.spec, literal(current.run.id))
    return any_left(conn, current.spec, info, among)


def _route(conn: Connection, current: Slice, info: TableInfo, strategy: Strategy) -> Route:
    """The way that is left of the run's present pass over the table."""
    at = checkpoint.position(conn, current.run.id, info.pages)
    if strategy.name == "keyset":
        return KeyRoute(current.spec, info, at.next_key)
    return PageRoute(info.leaves, at.next_page, at.end_page, at.unfinished)


def _vacuum(conn: Connection, spec: Spec, run: ledger.Run) -> None:
    started = time.monotonic()
    with patient(conn) as other:
        other.execute(vacuum_statement(spec), ())
    checkpoint.add_seconds(conn, run.id, time.monotonic() - started)
