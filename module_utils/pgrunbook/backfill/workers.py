# SPDX-License-Identifier: GPL-3.0-or-later
"""The workers: threads that do batches, and one that watches what they do to others.

The watching thread samples the load about once a second, throttles the workers while a threshold is
exceeded, and writes the checkpoint to the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack

from ..core.connection import Connection
from ..core.sibling import sibling
from ..core.spec import Spec
from ..core.window import window_closed
from ..ledger import Checkpoint, checkpoint
from ..ledger.checkpoint import Learned, Watched
from . import gentle
from .slice import Slice
from .throttle import UNKNOWN_SECONDS, Sampler, horizon_holder, reasons, sees_all_transactions

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
Where = Callable[[], Checkpoint]


def statement_timeout_ms(spec: Spec) -> int:
    """How long a worker's statement may take before the server cancels it, in milliseconds."""
    return max(spec.batch_target_ms * STATEMENT_TIMEOUT_FACTOR, LEAST_TIMEOUT_MS)


def run(
    conn: Connection, current: Slice, work: Work, workers: int, where: Where = Checkpoint
) -> None:
    """Do work(connection) in so many threads, each with a connection of its own, until all of them
    return, and watch them. where gives the checkpoint to be written.

    What a worker raises is raised here, once the others have ended their batch. RunbookError where
    one of the connections leads to another server.
    """
    # JIT would be compiled for every short statement again.
    settings = {"statement_timeout": f"{statement_timeout_ms(current.spec)}ms", "jit": "off"}
    current.workers = workers
    with ExitStack() as stack:
        conns = [stack.enter_context(sibling(conn, **settings)) for _ in range(workers)]
        watcher = _Watcher(conn, current, [c.info.backend_pid for c in (conn, *conns)], where)
        watcher.begin()
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        stack.callback(current.end)
        watcher.watch([pool.submit(work, c) for c in conns])
    watcher.write_checkpoint()
    current.begin()


class _Watcher:
    """Samples the load, throttles, and writes checkpoints, from the slice's own connection."""

    def __init__(self, conn: Connection, current: Slice, ours: list[int], where: Where) -> None:
        self._conn, self._slice, self._ours, self._where = conn, current, ours, where
        self._sampler = Sampler(conn, ours)
        self._written_at, self._idle = time.monotonic(), current.idle_seconds()
        self._judged_rows = self._judged_hot = 0
        self._looked_at = 0.0

    def begin(self) -> None:
        """The first look, before the workers begin."""
        self._slice.begin()
        self._slice.gentle.begin(self._conn, self._slice.run.id)
        if self._slice.interleaved:
            self._slice.fallback = self._holder(OLD_TRANSACTION_SECONDS)
        self.look()

    def watch(self, futures: list[Future[None]]) -> None:
        """Look about once a second, and more often at what others feel, until every worker has
        ended; raise what one of them raised."""
        pending = set(futures)
        pause = gentle.SAMPLE_SECONDS if self._slice.gentle.wanted else SAMPLE_SECONDS
        while pending:
            done, pending = wait(pending, timeout=pause, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if pending:
                self._feel()
            if pending and time.monotonic() - self._looked_at >= SAMPLE_SECONDS:
                self.look()

    def look(self) -> None:
        """Sample the load, and throttle the workers or let them go on."""
        self._looked_at = time.monotonic()
        self._slice.load = load = self._sampler.sample()
        watched = self.write_checkpoint()
        if watched.control.action != "pause":
            self._slice.wait_because(reasons(self._slice.spec, load, watched.active_sessions))
        self._slice.obey(watched.control)
        if window_closed(self._slice.spec) and not self._slice.reverting:
            self._slice.stop("window")
        if self._slice.interleaved:
            self._judge_passes()

    def write_checkpoint(self) -> Watched:
        """Write the checkpoint to the ledger, with the time worked; what the run is told. As its
        commit waits for the disk, all batches recorded before are there too.

        Raises RunbookError when the run belongs to another execution.
        """
        now, idle = time.monotonic(), self._slice.idle_seconds()
        seconds = max(now - self._written_at - (idle - self._idle), 0.0)
        self._written_at, self._idle = now, idle
        load, batches = self._slice.load, self._slice.take_unflushed()
        watched = checkpoint.write_checkpoint(
            self._conn,
            self._slice.run,
            self._where(),
            seconds=seconds,
            learned=Learned(self._slice.sizes.learned(), self._slice.gentle.kept()),
            active=load.active if load else 0,
        )
        self._slice.flushed(batches)
        return watched

    def _feel(self) -> None:
        """See what others feel while batches run, and have the next ones follow the pace."""
        felt = self._slice.gentle
        if felt.wanted and not self._slice.waits() and felt.look(self._conn, self._slice.run.id):
            self._slice.sizes.aim(felt.pace.target_ms)

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
