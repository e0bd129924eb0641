# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of work: threads that do batches, and one that watches what they do to others.

The watching thread samples the load about once a second, holds the workers while a threshold is
exceeded or somebody paused the run, and keeps the cursor in the ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from .. import ledger
from ..core.connection import Connection
from ..core.sibling import sibling
from ..core.spec import Spec
from ..core.window import window_closed
from ..ledger import Checkpoint, Control, checkpoint
from ..ledger.checkpoint import Watched
from .batch import BatchResult
from .batch_size import Pace
from .throttle import UNKNOWN_SECONDS, Load, Sampler, horizon_holder, reasons, sees_all_transactions

SAMPLE_SECONDS = 1.0
STATEMENT_TIMEOUT_FACTOR = 20  # times the target duration, and at least a LEAST_TIMEOUT_MS
LEAST_TIMEOUT_MS = 2000
HOT_EXPECTED = 0.3  # share of heap-only updates below which later passes do not pay
HOT_JUDGED_ROWS = 2000
OLD_TRANSACTION_SECONDS = 10.0
HOLDING_BATCHES = 2  # a transaction has to outlast as many to be in the way of the next pass

CAUSES = "rows that grow by more than their pages have room for, or an index on what is filled"
UNSEEN = "a transaction that this role may not see (GRANT pg_read_all_stats to see whose)"

Work = Callable[[Connection], None]
At = Callable[[], Checkpoint]


@dataclass
class Figures:
    """What was measured in a slice; a mutable record, under the Slice's lock."""

    rows: int = 0
    hot: int = 0
    later_rows: int = 0
    later_hot: int = 0
    held_seconds: float = 0.0
    throttled_seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)


class Slice:
    """The state that workers and watcher share."""

    def __init__(
        self, spec: Spec, run: ledger.Run, pace: Pace, *, seconds: float, interleaved: bool
    ) -> None:
        self.spec, self.run, self.pace, self.interleaved = spec, run, pace, interleaved
        self.figures = Figures()
        self.load: Load | None = None
        self.fallback = ""
        self.rows_aside = False
        self.why_held: dict[str, str] = {}
        self.stopped = ""
        self.stopped_by = ""
        self._started = time.monotonic()
        self._deadline = self._started + seconds
        self.throttle = 0
        self.workers = spec.workers
        self._held: dict[str, str] = {}
        self._held_since = 0.0
        self._rows_per_second = 0
        self._lock = threading.Lock()
        self._over = threading.Event()

    def seconds(self) -> float:
        """How long the slice has lasted."""
        return time.monotonic() - self._started

    def time_left(self) -> bool:
        """Whether a worker should begin something new."""
        return not self._over.is_set() and time.monotonic() < self._deadline

    def may_go_on(self) -> bool:
        """Wait while the workers are held. False when no batch may begin in this slice."""
        while self._held and self.time_left():
            self._over.wait(0.05)
        return not self._over.is_set() and not self._held

    def sleep(self, seconds: float) -> None:
        """Wait that long, or until the slice is over."""
        self._over.wait(seconds)

    def record(self, done: BatchResult, *, later: bool) -> None:
        """Count a batch, obey the run's control and keep below its rate. later is whether it was
        of a pass for which an earlier one made room."""
        with self._lock:
            self.figures.rows += done.rows
            self.figures.hot += done.hot
            if later:
                self.figures.later_rows += done.rows
                self.figures.later_hot += done.hot
            if done.rows:
                self.figures.milliseconds.append(done.milliseconds)
        self.obey(done.control)
        if self._rows_per_second:
            due = done.rows * self.workers / self._rows_per_second
            self._rest(max(due - done.milliseconds / 1000, 0.0))

    def most_rows(self) -> int:
        """The most rows that a batch may change: batch_rows, or a second's worth of the rate that
        somebody set, so that no pause between two batches is longer."""
        if not self._rows_per_second:
            return self.spec.batch_rows
        return max(min(self.spec.batch_rows, self._rows_per_second // self.workers), 1)

    def obey(self, control: Control) -> None:
        """Do what somebody told the run to do."""
        self._rows_per_second = control.rows_per_second
        self.throttle = max(self.throttle, control.rows_per_second)
        if control.action == "abort":
            self.stop("abort", control.by)
        if control.action == "pause":
            self.hold({"control": f"paused by {control.by}"})

    def hold(self, why: dict[str, str]) -> None:
        """Hold the workers for these reasons, by what they come from, or let them go on where
        there is none."""
        with self._lock:
            self._count_held()
            self._held = why
            self.why_held.update(why)

    def stop(self, why: str, by: str = "") -> None:
        """Let no batch begin any more. why is "window" or "abort"."""
        self.stopped, self.stopped_by = self.stopped or why, self.stopped_by or by
        self._over.set()

    def begin(self) -> None:
        """Let batches begin, unless the slice was stopped."""
        if not self.stopped:
            self._over.clear()

    def end(self) -> None:
        """Let no batch begin any more, for now."""
        self._over.set()

    def held(self) -> bool:
        """Whether the workers are held now."""
        return bool(self._held)

    def idle_seconds(self) -> float:
        """For how long no batch could begin so far: the slice was held, or rested to keep below a
        rate."""
        with self._lock:
            self._count_held()
            return self.figures.held_seconds + self.figures.throttled_seconds

    def _count_held(self) -> None:
        now = time.monotonic()
        if self._held:
            self.figures.held_seconds += now - self._held_since
        self._held_since = now

    def _rest(self, seconds: float) -> None:
        started = time.monotonic()
        self.sleep(seconds)
        with self._lock:
            self.figures.throttled_seconds += (time.monotonic() - started) / self.workers


def start(conn: Connection, spec: Spec, run: ledger.Run, *, interleaved: bool) -> Slice:
    """A slice that begins now, with what earlier ones learned."""
    pace = Pace(spec.batch_target_ms, checkpoint.batch_sizes(conn, run.id))
    return Slice(spec, run, pace, seconds=spec.slice_seconds, interleaved=interleaved)


def statement_timeout_ms(spec: Spec) -> int:
    """How long a worker's statement may take before the server cancels it, in milliseconds."""
    return max(spec.batch_target_ms * STATEMENT_TIMEOUT_FACTOR, LEAST_TIMEOUT_MS)


def supervise(
    conn: Connection, current: Slice, work: Work, workers: int, at: At = Checkpoint
) -> None:
    """Do work(connection) in so many threads, each with a connection of its own, until all of them
    return, and watch them. at gives the checkpoint.

    What a worker raises is raised here, once the others have ended their batch. RunbookError where
    one of the connections leads to another server.
    """
    # JIT would be compiled for every short statement again.
    settings = {"statement_timeout": f"{statement_timeout_ms(current.spec)}ms", "jit": "off"}
    current.workers = workers
    with ExitStack() as stack:
        conns = [stack.enter_context(sibling(conn, **settings)) for _ in range(workers)]
        watcher = _Watcher(conn, current, [c.info.backend_pid for c in (conn, *conns)], at)
        watcher.begin()
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        stack.callback(current.end)
        watcher.watch([pool.submit(work, c) for c in conns])
    watcher.keep()
    current.begin()


class _Watcher:
    """Samples, holds and keeps the cursor, from the slice's own connection."""

    def __init__(self, conn: Connection, current: Slice, ours: list[int], at: At) -> None:
        self._conn, self._slice, self._ours, self._at = conn, current, ours, at
        self._sampler = Sampler(conn, ours)
        self._kept_at, self._idle = time.monotonic(), current.idle_seconds()
        self._judged_rows = self._judged_hot = 0

    def begin(self) -> None:
        """The first look, before the workers begin."""
        self._slice.begin()
        if self._slice.interleaved:
            self._slice.fallback = self._holder(OLD_TRANSACTION_SECONDS)
        self.look()

    def watch(self, futures: list[Future[None]]) -> None:
        """Look about once a second, until every worker has ended; raise what one of them raised."""
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=SAMPLE_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if pending:
                self.look()

    def look(self) -> None:
        """Sample the load, and hold or release the workers."""
        self._slice.load = load = self._sampler.sample()
        watched = self.keep()
        if watched.control.action != "pause":
            self._slice.hold(reasons(self._slice.spec, load, watched.active_sessions))
        self._slice.obey(watched.control)
        if window_closed(self._slice.spec):
            self._slice.stop("window")
        if self._slice.interleaved:
            self._judge_passes()

    def keep(self) -> Watched:
        """Write the checkpoint to the ledger, with the time worked; what the run is told.

        Raises RunbookError when the run belongs to another execution.
        """
        now, idle = time.monotonic(), self._slice.idle_seconds()
        seconds = max(now - self._kept_at - (idle - self._idle), 0.0)
        self._kept_at, self._idle = now, idle
        load = self._slice.load
        return checkpoint.write_checkpoint(
            self._conn,
            self._slice.run,
            self._at(),
            seconds=seconds,
            sizes=self._slice.pace.learned(),
            active=load.active if load else 0,
        )

    def _judge_passes(self) -> None:
        """Fall back to a single pass, until the slice ends, where later ones found no room; say who
        is in the way, or what may be."""
        figures = self._slice.figures
        rows, hot = figures.later_rows - self._judged_rows, figures.later_hot - self._judged_hot
        if self._slice.fallback or rows < HOT_JUDGED_ROWS:
            return
        self._judged_rows, self._judged_hot = figures.later_rows, figures.later_hot
        if hot < HOT_EXPECTED * rows:
            batches = HOLDING_BATCHES * self._slice.spec.batch_target_ms / 1000
            self._slice.fallback = self._holder(min(batches, UNKNOWN_SECONDS)) or few_heap_only(
                rows, hot, all_seen=sees_all_transactions(self._conn)
            )

    def _holder(self, older: float) -> str:
        return horizon_holder(self._conn, self._ours, older)


def few_heap_only(rows: int, hot: int, *, all_seen: bool) -> str:
    """What is known where nobody is seen who keeps dead rows from being pruned, and still only hot
    of so many updates in later passes were heap-only."""
    causes = CAUSES if all_seen else f"{CAUSES}; or {UNSEEN}"
    share = f"{hot * 100 / rows:.0f} % of {rows:,} in later passes"
    return f"few heap-only updates ({share}); usual causes: {causes}"
