# SPDX-License-Identifier: GPL-3.0-or-later
"""What one worker of the backfill does: chunk after chunk, and each chunk in passes."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from .. import ledger
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.locks import TRANSIENT, with_lock_retries
from ..core.spec import Spec
from ..ledger import RefusedRow
from . import batch, refused_rows
from .batch import BatchResult
from .batch_size import RowLimit
from .scan import Chunk, PageRoute, Route
from .slice import Slice
from .statements import batch_statements, direct_statements, pick_statements
from .strategy import LINE_POINTERS, Strategy
from .workers import statement_timeout_ms

MAX_TIMEOUTS = 10  # in a row, each batch half as large as the one before
BATCHES_ALONE, BATCHES_TOGETHER = 2, 3
"""Batches of one pass, at least, before the next pass over the same pages: other transactions have
to end meanwhile, which keep pruning from making room. A worker that is not alone has to outlast a
whole batch of another one."""


class Worker:
    """What the threads of a slice do; all of them share one.

    sweep is the pass over the table: 0 is the first one, others are catch-up passes. eligible is
    how many rows the run has to fill, as its plan counted them. direct is whether the batches of
    the first pass may be direct.
    """

    def __init__(
        self,
        current: Slice,
        info: TableInfo,
        strategy: Strategy,
        route: Route,
        *,
        sweep: int,
        limit: RowLimit,
        eligible: int = 0,
        direct: bool = False,
    ) -> None:
        self.slice, self.limit = current, limit
        self._direct = (
            direct_statements(current.spec, info, strategy) if direct and not sweep else {}
        )
        self._route, self._sweep = route, sweep
        self._by_key, self._passes = strategy.name == "keyset", strategy.passes
        pages = route.pages if isinstance(route, PageRoute) else info.pages
        self._rows_per_page = max(max(info.rows_estimate, eligible) / max(pages, 1), 1.0)
        self._queries = batch_statements(current.spec, info, strategy)
        self._picking = pick_statements(current.spec, info, strategy)

    def work(self, conn: Connection) -> None:
        """Take chunks until there is none, or no time, but do at least one pass."""
        while self.slice.may_go_on():
            passes = self._passes_now()
            chunk = self._route.next(conn, self._chunk_size(passes), passes)
            if chunk is None:
                return
            for number in range(chunk.next_pass, chunk.passes):
                if not _Pass(self, conn, chunk, number).run():
                    return
                self._route.passed(chunk, number)
                if not self.slice.time_left():
                    return

    def kind(self, number: int, passes: int) -> str:
        """Which cost a batch of a pass has, for its size."""
        if passes > 1:
            return f"pass {number}"
        return "catch-up pass" if self._sweep else "only pass"

    def size(self, kind: str, passes: int) -> int:
        """Pages of a batch, or rows by key: what fits into the target duration, but no more than
        batch_rows rows, and in the first pass over the table no more pages than hold so many."""
        size, most = self.slice.sizes.size(kind), self.slice.spec.batch_rows
        if self._by_key:
            return min(size, most)
        if self._sweep:
            return size
        return max(min(size, int(most * passes / self._rows_per_page)), 1)

    def can_be_direct(self, pages: int, passes: int, rows: int) -> bool:
        """Whether a batch of so many pages, or rows by key, may be direct: it cannot leave a row,
        so there must hardly be more than so many to fill."""
        if not self._direct:
            return False
        expected = pages if self._by_key else pages * self._rows_per_page / passes
        return expected <= rows

    def filled(self, pages: int, passes: int, rows: int) -> None:
        """Learn from a batch of so many pages how many rows a page may have: statistics may be
        old, and some pages have more rows than others."""
        if not self._by_key:
            self._rows_per_page = max(self._rows_per_page, rows * passes / pages)

    def direct_batch(
        self, conn: Connection, chunk: Chunk, place: dict[str, Any]
    ) -> BatchResult | None:
        """One direct batch; None where another transaction was in its way for too long."""
        given, run = self._given(place), self.slice.run
        query = self._direct[chunk.leaf.oid]
        wait = batch.DIRECT_LOCK_MS
        try:
            return batch.fill(conn, query, run, chunk.leaf.oid, given, lock_timeout_ms=wait)
        except TRANSIENT:
            return None

    def batch(
        self, conn: Connection, chunk: Chunk, place: dict[str, Any], *, alone: bool
    ) -> BatchResult:
        """One patient batch; alone is whether it is of one row, which is named where it is
        refused."""
        spec, leaf, run = self.slice.spec, chunk.leaf, self.slice.run
        query, picking = self._queries[leaf.oid], self._picking[leaf.oid]
        given = self._given(place)

        def once() -> BatchResult:
            if alone:
                return batch.fill_one(conn, picking, query, run, leaf.oid, given)
            return batch.fill(conn, query, run, leaf.oid, given)

        return with_lock_retries(
            conn,
            once,
            table_oid=leaf.oid,
            what=f"Backfill of {leaf.table}",
            tries=spec.lock_tries,
            sleep=self.slice.sleep,
        )

    def _given(self, place: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a batch's statement in that place, apart from the run."""
        return {**place, "sweep": self._sweep, "aside": self.slice.rows_aside}

    def set_aside(self, conn: Connection, row: RefusedRow) -> None:
        """Set a row aside. Raises RunbookError where the phase does not allow one more."""
        ledger.set_aside(conn, self.slice.run, row)
        self.slice.rows_aside = True
        refused_rows.require_few(conn, self.slice.spec, self.slice.run)

    def _passes_now(self) -> int:
        fits = self.slice.interleaved and not self.slice.fallback and not self._sweep
        return self._passes if fits else 1

    def _chunk_size(self, passes: int) -> int:
        largest = max(self.size(self.kind(n, passes), passes) for n in range(passes))
        if passes == 1:
            return largest
        return largest * (BATCHES_ALONE if self.slice.spec.workers == 1 else BATCHES_TOGETHER)


class _Pass:
    """One pass over a chunk, in batches, by one thread."""

    def __init__(self, worker: Worker, conn: Connection, chunk: Chunk, number: int) -> None:
        self._worker, self._conn, self._chunk, self._number = worker, conn, chunk, number
        self._slice, self._limit = worker.slice, worker.limit
        self._kind = worker.kind(number, chunk.passes)
        self._at, self._filled_here, self._timeouts = chunk.first, 0, 0
        self._patient = False  # whether another transaction was in the way of a direct batch
        self._suspects = 0  # how many of the next rows have one among them that the server refuses

    def run(self) -> bool:
        """Do the pass. False where it was broken off."""
        while self._at < self._chunk.last:
            if not self._slice.may_go_on():
                return False
            size = self._worker.size(self._kind, self._chunk.passes)
            end, rows = self._chunk.end(self._at, size), self._max_rows(size)
            direct = self._may_be_direct(end, rows)
            done = self._try(end, rows, direct=direct)
            if done is None:
                continue
            self._learn(done, end, rows)
            self._slice.record(done, later=self._number > 0)
            self._limit.filled(done.rows)
            if self._limit.reached():
                return False
            self._go_on(done, end, rows, all_filled=direct)
        return True

    def _max_rows(self, size: int) -> int:
        """How many rows the next batch may fill."""
        limits = [self._limit.rows(), self._slice.max_rows(), self._slice.sizes.max_rows()]
        by_key = self._chunk.max_rows(size)
        if by_key is not None:
            limits.append(by_key)
        if self._suspects:
            limits.append(max(self._suspects // 2, 1))
        return min(limits)

    def _may_be_direct(self, end: int, rows: int) -> bool:
        if self._patient or self._suspects:
            return False
        return self._worker.can_be_direct(end - self._at, self._chunk.passes, rows)

    def _try(self, end: int, rows: int, *, direct: bool) -> BatchResult | None:
        """Do a batch; None where it failed, and another one is to be tried in its place."""
        alone = bool(self._suspects) and rows == 1
        place = {**self._chunk.place(self._at, end, self._number), "most": rows}
        started = time.monotonic()
        done: BatchResult | None
        try:
            if direct:
                done = self._worker.direct_batch(self._conn, self._chunk, place)
                self._patient = done is None
            else:
                done = self._worker.batch(self._conn, self._chunk, place, alone=alone)
        except psycopg.errors.QueryCanceled:
            self._timeouts += 1
            _require_timeout(self._slice.spec, started, self._timeouts)
            self._slice.sizes.too_long(self._kind)
            self._limit.halve()
        except psycopg.errors.ProgramLimitExceeded:
            if alone:
                raise
            if rows > 1:
                self._limit.shrink(rows)
            else:
                self._suspects = rows
        except refused_rows.RowRefused as refused:
            self._worker.set_aside(self._conn, refused.row)
            self._suspects = 0
        except psycopg.Error as error:
            if alone or not refused_rows.is_refusal(error):
                raise
            if not self._suspects:  # another one may be near, and what is refused leaves dead rows
                self._limit.shrink(rows)
            self._suspects = rows
        else:
            self._timeouts = 0
            return done
        return None

    def _learn(self, done: BatchResult, end: int, rows: int) -> None:
        """Learn the size of the next batches, but not from one that looks for a refused row."""
        self._worker.filled(end - self._at, self._chunk.passes, done.rows)
        if self._suspects:
            self._suspects = self._suspects - done.rows if done.rows == rows else 0
        else:
            self._limit.grow()
            self._slice.sizes.took(self._kind, end - self._at, done.milliseconds)
        self._slice.sizes.weighed(done.rows, done.size)

    def _go_on(self, done: BatchResult, end: int, rows: int, *, all_filled: bool) -> None:
        """Go on behind a batch that found no more to fill. Raises RunbookError where the same place
        was filled more often than it can have rows."""
        self._filled_here += done.rows
        if all_filled or done.rows < rows:
            self._at, self._filled_here = end, 0
        elif self._filled_here > (end - self._at) * LINE_POINTERS:
            raise RunbookError(
                f"Rows of {self._chunk.leaf.table} are filled and then NULL again: a trigger or a "
                "rule takes the value away. What was committed before is kept. Next step: find it, "
                "and undo the run."
            )


def _require_timeout(spec: Spec, started: float, tries: int) -> None:
    """Raise, unless it was the statement timeout that cancelled a batch, and a smaller batch may
    do."""
    limit_ms = statement_timeout_ms(spec)
    if (time.monotonic() - started) * 1000 < limit_ms * 0.9:
        raise RunbookError(
            "Somebody cancelled a batch. What was committed before is kept. Next step: find "
            "out who and why, then run the playbook again; it goes on where it stopped."
        )
    if tries >= MAX_TIMEOUTS:
        raise RunbookError(
            f"A batch took more than {limit_ms / 1000:g} s, {tries} times, although each was "
            "half as large as the one before. What was committed before is kept. Next step: "
            f"look at the plan of the batch's statement; is there an index on "
            f"{spec.source} ({', '.join(spec.source_key.values())})?"
        )
