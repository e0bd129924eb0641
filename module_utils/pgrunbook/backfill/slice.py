# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of work as its workers and the thread that watches them share it: when a batch may begin,
and what was measured."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from psycopg.sql import Composed

from .. import ledger
from ..core.connection import Connection
from ..core.spec import Spec
from ..ledger import Control, checkpoint
from .batch import BatchResult
from .batch_size import BatchSizes
from .failover import Seen
from .gentle import Gentle
from .throttle import Load


@dataclass
class Figures:
    """What was measured in a slice; a mutable record, under the Slice's lock. later_rows and
    later_hot are those of passes for which an earlier one made room. In waited_seconds the slice
    was throttled or paused, in rested_seconds it kept below a rate."""

    rows: int = 0
    hot: int = 0
    later_rows: int = 0
    later_hot: int = 0
    waited_seconds: float = 0.0
    rested_seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)


class Slice:
    """The state that workers and watcher share."""

    def __init__(
        self,
        spec: Spec,
        run: ledger.Run,
        sizes: BatchSizes,
        *,
        seconds: float,
        interleaved: bool,
        seen: Seen | None = None,
        reverting: bool = False,
        gentle: Gentle | None = None,
    ) -> None:
        self.spec, self.run, self.sizes, self.interleaved = spec, run, sizes, interleaved
        self.seen, self.reverting = seen or Seen(), reverting
        self.gentle = gentle or Gentle(spec, {})
        self.figures = Figures()
        self.load: Load | None = None
        self.fallback = ""
        self.rows_aside = False
        self.reasons_told: dict[str, str] = {}
        self.stopped = ""
        self.stopped_by = ""
        self._started = time.monotonic()
        self._deadline = self._started + seconds
        self.throttle = 0
        self.workers = spec.workers
        self._reasons: dict[str, str] = {}
        self._waits_since = 0.0
        self._rows_per_second = 0
        self._unflushed: list[int] = []
        self._lock = threading.Lock()
        self._over = threading.Event()

    def seconds(self) -> float:
        """How long the slice has lasted."""
        return time.monotonic() - self._started

    def time_left(self) -> bool:
        """Whether a worker should begin something new."""
        return not self._over.is_set() and time.monotonic() < self._deadline

    def may_go_on(self) -> bool:
        """Wait while the slice is throttled or paused. False when no batch may begin in it."""
        while self._reasons and self.time_left():
            self._over.wait(0.05)
        return not self._over.is_set() and not self._reasons

    def sleep(self, seconds: float) -> None:
        """Wait that long, or until the slice is over."""
        self._over.wait(seconds)

    def record(self, done: BatchResult, *, later: bool) -> None:
        """Count a batch, obey the run's control and keep below its rate. later is whether it was
        of a pass for which an earlier one made room."""
        with self._lock:
            self._unflushed.append(done.rows)
            self.figures.rows += done.rows
            self.figures.hot += done.hot
            if later:
                self.figures.later_rows += done.rows
                self.figures.later_hot += done.hot
            if done.rows:
                self.figures.milliseconds.append(done.milliseconds)
        self.obey(done.control)
        rest = self.gentle.pace.rest_seconds(done.milliseconds)
        if self._rows_per_second:
            due = done.rows * self.workers / self._rows_per_second
            rest = max(rest, due - done.milliseconds / 1000)
        if rest > 0:
            self._rest(rest)

    def take_unflushed(self) -> list[int]:
        """The rows of each batch that was recorded since the last call: its commit has not waited
        for the disk, so it is believed once a later one of this server has."""
        with self._lock:
            taken, self._unflushed = self._unflushed, []
        return taken

    def flushed(self, batches: list[int]) -> None:
        """Count batches of so many rows as on the disk."""
        for rows in batches:
            self.seen.count(rows, reverting=self.reverting)

    def max_rows(self) -> int:
        """The most rows that a batch may change: batch_rows, or a second's worth of the rate that
        somebody set, so that no rest between two batches is longer."""
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
            self.wait_because({"control": f"paused by {control.by}"})

    def wait_because(self, reasons: dict[str, str]) -> None:
        """Let no batch begin while there are these reasons, by what they come from: thresholds that
        throttle the run, or somebody who paused it. Where there is none the workers go on."""
        with self._lock:
            self._count_waited()
            self._reasons = reasons
            self.reasons_told.update(reasons)

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

    def waits(self) -> bool:
        """Whether the slice is throttled or paused now."""
        return bool(self._reasons)

    def idle_seconds(self) -> float:
        """For how long no batch could begin so far: the slice was throttled or paused, or rested to
        keep below a rate."""
        with self._lock:
            self._count_waited()
            return self.figures.waited_seconds + self.figures.rested_seconds

    def _count_waited(self) -> None:
        now = time.monotonic()
        if self._reasons:
            self.figures.waited_seconds += now - self._waits_since
        self._waits_since = now

    def _rest(self, seconds: float) -> None:
        started = time.monotonic()
        self.sleep(seconds)
        with self._lock:
            self.figures.rested_seconds += (time.monotonic() - started) / self.workers


def start(
    conn: Connection,
    spec: Spec,
    run: ledger.Run,
    *,
    interleaved: bool,
    probe: Composed | None = None,
    seen: Seen | None = None,
    reverting: bool = False,
) -> Slice:
    """A slice that begins now, with what earlier ones learned. probe is the query to be timed."""
    learned = checkpoint.learned(conn, run.id)
    gentle = Gentle(spec, learned.gentle, probe)
    return Slice(
        spec,
        run,
        BatchSizes(gentle.pace.target_ms, learned.sizes),
        seconds=spec.slice_seconds,
        interleaved=interleaved,
        seen=seen,
        reverting=reverting,
        gentle=gentle,
    )
