# SPDX-License-Identifier: GPL-3.0-or-later
"""How the result of a slice is made and recorded as an event of the run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from .. import ledger
from ..core.connection import Connection
from ..core.values import plain
from ..ledger import Progress, Refused, journal
from .failover import Lost
from .progress import line
from .result import GivenBack, Measured, SliceResult
from .slice import Slice

_NOTHING_MEASURED, _NOTHING_REFUSED, _NOTHING_GIVEN_BACK = Measured(), Refused(), GivenBack()
_NOTHING_LOST = Lost()


def result(
    at: Progress,
    *,
    changed: int,
    done: bool,
    reverting: bool = False,
    measured: Measured = _NOTHING_MEASURED,
    refused: Refused = _NOTHING_REFUSED,
    given_back: GivenBack = _NOTHING_GIVEN_BACK,
    lost: Lost = _NOTHING_LOST,
    queries: Sequence[str] = (),
    sample: str = "",
) -> SliceResult:
    """The result of a call that changed so many rows, with its line of progress."""
    found = SliceResult(
        done=done,
        changed=changed > 0,
        rows_changed=changed,
        rows_done=at.rows,
        batches_done=at.batches,
        rows_eligible=at.rows_eligible,
        sweep=at.sweep,
        seconds=round(at.seconds, 3),
        queries=tuple(queries),
        diff={"prepared": sample},
        **vars(measured),
        **vars(refused),
        **vars(given_back),
        **vars(lost),
    )
    return replace(found, progress=line(found, reverting=reverting))


def measure(current: Slice, *, done: bool, reverting: bool = False) -> Measured:
    """What was measured in a slice that has ended."""
    figures, load = current.figures, current.load
    hot = None if reverting or not figures.rows else round(figures.hot * 100 / figures.rows, 1)
    return Measured(
        slice_seconds=round(current.seconds(), 3),
        hot_percent=hot,
        replay_lag=load.replay_lag if load else None,
        held=tuple(current.reasons_told.values()),
        held_seconds=round(figures.waited_seconds, 3),
        throttle=current.throttle,
        throttled_seconds=round(figures.rested_seconds, 3),
        fallback=current.fallback,
        batch_ms=_durations(figures.milliseconds),
        gentle=current.gentle.measured(),
        gentle_warning=current.gentle.warning,
        stopped="" if done else current.stopped,
        stopped_by=current.stopped_by,
    )


def record(conn: Connection, current: Slice, told: SliceResult) -> SliceResult:
    """Record a slice's result as an event of the run; the same result."""
    figures = {name: getattr(told, name) for name in vars(_NOTHING_MEASURED)}
    ledger.event(
        conn,
        current.run.id,
        "progress",
        **plain(figures),
        rows_changed=told.rows_changed,
        rows_done=told.rows_done,
        rows_refused=told.rows_refused,
        sweep=told.sweep,
        rows_per_second=round(told.rows_changed / max(current.seconds(), 0.001)),
        progress=told.progress,
        journal=plain(journal.cover(conn, current.run.id)),
    )
    return told


def _durations(milliseconds: Sequence[float]) -> dict[str, float]:
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
