# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the phase's columns from the source, in batches that never stand in anybody's way.

A first sweep goes over the whole table: in interleaved passes over stretches of pages, over page
ranges, or in the order of the key. Rows that were locked, moved or arrived meanwhile are caught by
closing sweeps. A value is never overwritten, and nothing is eligible once the work is done.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed

from .. import catalog, ledger
from ..catalog import TableInfo, conversion, surroundings
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.locks import patient, with_lock_retries
from ..core.spec import Spec
from ..core.sql import literal, render, table
from ..core.values import plain
from ..core.window import require_open_window
from ..ledger import Progress, checkpoint, journal
from ..ledger.filled import require_the_filled
from . import batch, unfillable, workers
from .eligibility import any_left, count, sample
from .equality import rules
from .progress import line
from .sample import sample_text
from .scan import KeyRoute, PageRoute, Stretch
from .strategy import LINE_POINTERS, Strategy, from_dict
from .workers import Slice

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE SKIP LOCKED on the rows of one batch"
MOST_SWEEPS = 6
BATCHES_ALONE, BATCHES_TOGETHER = 2, 3
"""Batches of one pass, at least, before the next pass over the same pages: so long have the
transactions of others to end, which keep pruning from making room. A worker that is not alone has
to outlast a whole batch of another one."""
MOST_TIMEOUTS = 10  # in a row, each batch half as large as the one before
FIRST_WAIT_FOR_ROWS = 1.0  # seconds, doubled with each sweep that found only locked rows

_NOT_KEPT = (
    "Rows of {table} are filled and then NULL again: a trigger or a rule takes the value away. "
    "What was committed before is kept. Next step: find it, and undo the run."
)
VACUUM = "VACUUM (ANALYZE, TRUNCATE FALSE) {}"

_COUNTED = ("rows_changed", "rows_done", "rows_refused", "sweep")

Route = PageRoute | KeyRoute


def batch_statements(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The statement of a batch for each leaf, by the leaf's oid, on columns that have their right
    names and types by then."""
    place, held = _place(spec, info, strategy), _held_then(spec, info)
    return {leaf.oid: batch.statement(spec, held, leaf.table, place) for leaf in info.leaves}


def _place(spec: Spec, info: TableInfo, strategy: Strategy) -> Composable:
    """The condition that a row is in the place of a batch."""
    return batch.keys(spec, info) if strategy.name == "keyset" else batch.PAGES


def _held_then(spec: Spec, info: TableInfo) -> dict[str, conversion.Held]:
    """What rows hold once the columns have their right names and types."""
    renamed = {c.name: c.type for c in spec.columns}
    return conversion.held(spec, {**renamed, **conversion.foreseen(spec, info).types})


def _picking(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The query that finds one row of a batch, for each leaf."""
    place, held = _place(spec, info, strategy), _held_then(spec, info)
    return {leaf.oid: batch.pick(spec, held, leaf.table, place) for leaf in info.leaves}


def vacuum_statement(spec: Spec) -> Composed:
    """What follows the last batch: it sets the visibility map and renews the statistics."""
    return SQL(VACUUM).format(table(spec.table))


def statements(spec: Spec, info: TableInfo, strategy: Strategy) -> list[str]:
    """The statements that an approval of the backfill covers."""
    batches = batch_statements(spec, info, strategy).values()
    return [*(render(s) for s in batches), render(vacuum_statement(spec))]


def dry_run(conn: Connection, spec: Spec, run: ledger.Run, *, canary: bool) -> dict[str, Any]:
    """What the backfill would do, with up to 100 rows before and after. Writes nothing."""
    info = catalog.inspect(conn, spec.table)
    eligible_rows = count(conn, spec, info)["rows_eligible"]
    at = Progress(rows_eligible=eligible_rows)
    if ledger.has_run(conn, run.id):
        at = ledger.progress(conn, run.id)
    rows = min(eligible_rows, max(spec.canary_rows - at.rows, 0)) if canary else eligible_rows
    return outcome(
        at,
        changed=rows,
        done=True,
        queries=statements(spec, info, _like(spec)) if rows else [],
        diff={
            "prepared": sample_text(sample(conn, spec, info, rules(conn, spec, info), 100))
            if rows
            else ""
        },
    )


def _like(spec: Spec) -> Strategy:
    """A strategy whose batches have the same statement as the one that will be chosen."""
    return Strategy("keyset" if spec.strategy == "keyset" else "ranges")


def run_slice(conn: Connection, spec: Spec, run: ledger.Run, *, canary: bool) -> dict[str, Any]:
    """Work for about slice_seconds, or until nothing is left to do.

    A canary stops when the run has changed canary_rows rows; all else needs the approval that
    follows the canary. Where there is nothing to do, neither ledger nor approval is asked for.
    Raises RunbookError without an approval, or when the maintenance window is over.
    """
    info = catalog.inspect(conn, spec.table)
    if not ledger.has_run(conn, run.id) and not count(conn, spec, info)["rows_eligible"]:
        return outcome(Progress(), changed=0, done=True)
    scope = "plan" if canary else "backfill"
    plan = ledger.approved_plan(conn, run, scope)
    strategy = from_dict(plan["strategy"])
    queries = statements(spec, info, strategy)
    ledger.require_statements(plan, run, queries)
    surroundings.require_unchanged(conn, spec, info, plan)
    require_the_filled(conn, spec, info, run.id)
    require_open_window(spec)
    before = ledger.progress(conn, run.id)
    interleaved = strategy.passes > 1 and not canary
    current = workers.start(conn, spec, run, interleaved=interleaved)
    current.rows_aside = ledger.refused(conn, run.id).rows_refused > 0
    if canary:
        done = _canary(conn, current, info, strategy, max(spec.canary_rows - before.rows, 0))
    else:
        done = _sweeps(conn, current, info, strategy)
        if done:
            _vacuum(conn, spec, run)
    refused = ledger.refused(conn, run.id)
    return slice_outcome(conn, current, before, done=done, queries=queries, **plain(refused))


def slice_outcome(
    conn: Connection, current: Slice, before: Progress, *, done: bool, **more: Any
) -> dict[str, Any]:
    """What a slice returns, which is also recorded as an event of the run."""
    figures, load = current.figures, current.load
    after = ledger.progress(conn, current.run.id)
    measured: dict[str, Any] = {
        "slice_seconds": round(current.seconds(), 3),
        "hot_percent": None
        if more.get("reverting") or not figures.rows
        else round(figures.hot * 100 / figures.rows, 1),
        "replay_lag": load.replay_lag if load else None,
        "held": list(current.why_held.values()),
        "held_seconds": round(figures.held_seconds, 3),
        "throttle": current.throttle,
        "throttled_seconds": round(figures.throttled_seconds, 3),
        "fallback": current.fallback,
        "batch_ms": _durations(figures.milliseconds),
        "stopped": "" if done else current.stopped,
        "stopped_by": current.stopped_by,
    }
    result = outcome(
        after,
        **{"changed": after.rows - before.rows, **more},
        done=done,
        **measured,
    )
    ledger.event(
        conn,
        current.run.id,
        "progress",
        **{key: result[key] for key in (*measured, *_COUNTED)},
        rows_per_second=round(result["rows_changed"] / max(current.seconds(), 0.001)),
        progress=result["progress"],
        journal=journal.cover(conn, current.run.id),
    )
    return result


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
        "hot_percent": None,
        "replay_lag": None,
        "held": [],
        "held_seconds": 0.0,
        "throttle": 0,
        "throttled_seconds": 0.0,
        "fallback": "",
        "batch_ms": {},
        "queries": [],
        "diff": {"prepared": ""},
        "stopped": "",
        "stopped_by": "",
        "rows_left_alone": 0,
        "left_alone": [],
        "rows_refused": 0,
        "refused": [],
        "rows_put_back": 0,
        "rows_rewritten": 0,
        "columns_gone": [],
        **more,
    }
    return {**result, "progress": line(result, reverting=reverting)}


def _canary(
    conn: Connection, current: Slice, info: TableInfo, strategy: Strategy, most: int
) -> bool:
    """Fill that many rows, in one thread, with the indexes in place. True when it is done."""
    route = _route(conn, current, info, strategy)
    left = [most]
    worker = _Worker(current, info, strategy, route, sweep=0, left=left)
    if most:
        workers.supervise(conn, current, worker.work, 1, route.checkpoint)
    return left[0] <= 0 or route.exhausted()


def _sweeps(conn: Connection, current: Slice, info: TableInfo, strategy: Strategy) -> bool:
    """Go on with the sweep that the run is in, and begin the next ones, as long as there is time.
    True when no row is left, or the last sweep is over."""
    while True:
        at = ledger.progress(conn, current.run.id)
        route = _route(conn, current, info, strategy)
        worker = _Worker(current, info, strategy, route, sweep=at.sweep)
        workers.supervise(conn, current, worker.work, current.spec.workers, route.checkpoint)
        if not route.exhausted():
            return False
        found = ledger.progress(conn, current.run.id).rows_this_sweep
        if at.sweep + 1 >= MOST_SWEEPS or (not found and not _any_left(conn, current, info)):
            return True
        if at.sweep and not found:
            current.sleep(FIRST_WAIT_FOR_ROWS * 2 ** (at.sweep - 1))
        checkpoint.begin_pass(conn, current.run.id, at.sweep + 1)
        if not current.time_left():
            return False
        info = catalog.inspect(conn, current.spec.table)


def _any_left(conn: Connection, current: Slice, info: TableInfo) -> bool:
    """Whether a row could still be filled, apart from those that are set aside."""
    among = unfillable.not_aside(current.spec, literal(current.run.id))
    return any_left(conn, current.spec, info, among)


def _route(conn: Connection, current: Slice, info: TableInfo, strategy: Strategy) -> Route:
    """The way that is left of the run's present sweep."""
    at = checkpoint.position(conn, current.run.id, info.pages)
    if strategy.name == "keyset":
        return KeyRoute(current.spec, info, at.next_key)
    return PageRoute(info.leaves, at.next_page, at.end_page, at.unfinished)


class _Worker:
    """What one thread does with stretch after stretch; all threads of a slice share one."""

    def __init__(
        self,
        current: Slice,
        info: TableInfo,
        strategy: Strategy,
        route: Route,
        *,
        sweep: int,
        left: list[int] | None = None,
    ) -> None:
        self._slice, self._route, self._sweep = current, route, sweep
        self._by_key, self._passes = strategy.name == "keyset", strategy.passes
        self._rows_per_page = max(info.rows_estimate / max(info.pages, 1), 1.0)
        self._queries = batch_statements(current.spec, info, strategy)
        self._picking = _picking(current.spec, info, strategy)
        self._left, self._most = left, current.spec.batch_rows

    def work(self, conn: Connection) -> None:
        """Take stretches until there is none, or no time, but do at least one pass."""
        while self._slice.may_go_on():
            passes = self._passes_now()
            stretch = self._route.next(conn, self._stretch_size(passes), passes)
            if stretch is None:
                return
            for number in range(stretch.next_pass, stretch.passes):
                if not self._pass(conn, stretch, number):
                    return
                self._route.passed(stretch, number)
                if not self._slice.time_left():
                    return

    def _passes_now(self) -> int:
        fits = self._slice.interleaved and not self._slice.fallback and not self._sweep
        return self._passes if fits else 1

    def _kind(self, number: int, passes: int) -> str:
        """Which cost a batch has, for the pace."""
        if passes > 1:
            return f"pass {number}"
        return "closing sweep" if self._sweep else "only pass"

    def _stretch_size(self, passes: int) -> int:
        largest = max(self._size(self._kind(n, passes), passes) for n in range(passes))
        if passes == 1:
            return largest
        return largest * (BATCHES_ALONE if self._slice.spec.workers == 1 else BATCHES_TOGETHER)

    def _size(self, kind: str, passes: int) -> int:
        """Pages of a batch, or rows by key: what fits into the target duration, but in the first
        sweep no more than hold batch_rows rows to be filled."""
        size, most = self._slice.pace.size(kind), self._slice.spec.batch_rows
        if self._by_key or self._sweep:
            return size
        return max(min(size, round(most * passes / self._rows_per_page)), 1)

    def _pass(self, conn: Connection, stretch: Stretch, number: int) -> bool:
        """One pass over a stretch, in batches. False where it was broken off."""
        spec, pace = self._slice.spec, self._slice.pace
        kind = self._kind(number, stretch.passes)
        at, tries, changed = stretch.first, 0, 0
        suspects = 0  # how many of the next rows have one among them that the server refuses
        while at < stretch.last:
            if not self._slice.may_go_on():
                return False
            size = self._size(kind, stretch.passes)
            upto = stretch.last if self._by_key else min(at + size, stretch.last)
            limit = min(
                [
                    self._most,
                    self._slice.most_rows(),
                    pace.most_rows(),
                    *(self._left or []),
                    *([size] if self._by_key else []),
                    *([max(suspects // 2, 1)] if suspects else []),
                ]
            )
            alone = bool(suspects) and limit == 1
            place = self._place(stretch, at, upto, number, limit)
            started = time.monotonic()
            try:
                done = self._batch(conn, stretch, place, alone=alone)
            except psycopg.errors.QueryCanceled:
                tries += 1
                self._require_timeout(started, tries)
                pace.too_long(kind)
                self._most = max(self._most // 2, 1)
                continue
            except psycopg.errors.ProgramLimitExceeded as error:
                self._require_more_than_one(limit, error)
                self._most = limit // 2
                continue
            except unfillable.RowRefused as refused:
                self._set_aside(conn, refused)
                suspects = 0
                continue
            except psycopg.Error as error:
                if alone or not unfillable.is_refusal(error):
                    raise
                if not suspects:  # another one may be near, and what is refused leaves dead rows
                    self._most = max(limit // 2, 1)
                suspects = limit
                continue
            tries = 0
            if suspects:  # a batch that looks for a row that is refused is none to learn from
                suspects = suspects - done.rows if done.rows == limit else 0
            else:
                self._most = min(self._most + self._most // 4 + 1, spec.batch_rows)
                pace.took(kind, upto - at, done.milliseconds)
            pace.weighed(done.rows, done.size)
            self._slice.record(done, later=number > 0)
            if self._left is not None:
                self._left[0] -= done.rows
                if self._left[0] <= 0:
                    return False
            changed += done.rows
            if done.rows < limit:
                at, changed = upto, 0
            elif changed > (upto - at) * LINE_POINTERS:
                raise RunbookError(_NOT_KEPT.format(table=stretch.leaf.table))
        return True

    def _place(
        self, stretch: Stretch, at: int, upto: int, number: int, limit: int
    ) -> dict[str, Any]:
        """The parameters of a batch's statement that say where it works."""
        pages: dict[str, Any] = {
            "first": at,
            "last": upto,
            "passes": stretch.passes,
            "pass": number,
        }
        if self._by_key:
            pages = {
                "first": None,
                "last": None,
                "first_key": stretch.first_key,
                "last_key": stretch.last_key,
            }
        return {
            **pages,
            "most": limit,
            "sweep": self._sweep,
            "aside": self._slice.rows_aside,
        }

    def _batch(
        self, conn: Connection, stretch: Stretch, place: dict[str, Any], *, alone: bool
    ) -> batch.BatchResult:
        """One batch; alone is whether it is of one row, which is named where it is refused."""
        spec, leaf, run = self._slice.spec, stretch.leaf, self._slice.run
        query, picking = self._queries[leaf.oid], self._picking[leaf.oid]

        def once() -> batch.BatchResult:
            if alone:
                return batch.fill_one(conn, picking, query, run, leaf.oid, place)
            return batch.fill(conn, query, run, leaf.oid, place)

        return with_lock_retries(
            conn,
            once,
            table_oid=leaf.oid,
            what=f"Backfill of {leaf.table}",
            tries=spec.lock_tries,
            sleep=self._slice.sleep,
        )

    def _set_aside(self, conn: Connection, refused: unfillable.RowRefused) -> None:
        """Set a row aside. Raises RunbookError where the phase does not allow one more."""
        ledger.set_aside(conn, self._slice.run, refused.row)
        self._slice.rows_aside = True
        unfillable.require_few(conn, self._slice.spec, self._slice.run)

    def _require_more_than_one(self, limit: int, error: psycopg.Error) -> None:
        """Raise where the server's limits do not allow a batch of one row, so that no smaller one
        may do."""
        if limit > 1:
            return
        raise RunbookError(
            f"A batch of one row of {self._slice.spec.table} exceeds a limit of the server "
            f"(SQLSTATE {error.sqlstate}): {error.diag.message_primary}. What was committed before "
            "is kept. Next step: find what is so large in "
            f"{self._slice.spec.source}, such as a value of more than 256 MB, which no journal can "
            "hold, or one that an index on the filled column cannot hold; then run the playbook "
            "again."
        )

    def _require_timeout(self, started: float, tries: int) -> None:
        """Raise, unless it was the statement timeout that cancelled a batch, and a smaller batch
        may do."""
        limit_ms = workers.statement_timeout_ms(self._slice.spec)
        if (time.monotonic() - started) * 1000 < limit_ms * 0.9:
            raise RunbookError(
                "Somebody cancelled a batch. What was committed before is kept. Next step: find "
                "out who and why, then run the playbook again; it goes on where it stopped."
            )
        if tries >= MOST_TIMEOUTS:
            raise RunbookError(
                f"A batch took more than {limit_ms / 1000:g} s, {tries} times, although each was "
                "half as large as the one before. What was committed before is kept. Next step: "
                f"look at the plan of the batch's statement; is there an index on "
                f"{self._slice.spec.source} ({', '.join(self._slice.spec.source_key.values())})?"
            )


def _vacuum(conn: Connection, spec: Spec, run: ledger.Run) -> None:
    started = time.monotonic()
    with patient(conn) as other:
        other.execute(vacuum_statement(spec), ())
    checkpoint.add_seconds(conn, run.id, time.monotonic() - started)


def _durations(milliseconds: list[float]) -> dict[str, float]:
    """Batches, and their median, 99th percentile and longest duration in milliseconds."""
    if not milliseconds:
        return {}
    ordered = sorted(milliseconds)
    return {
        "batches": len(ordered),
        "p50": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)], 1),
        "longest": round(ordered[-1], 1),
    }
