# SPDX-License-Identifier: GPL-3.0-or-later
"""Slice after slice in one call of the module: a call costs a Python that starts, a slice a line of
progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..core import printable
from ..core.channel import Shown, Tell
from .failover import Seen
from .result import SliceResult


@dataclass
class Told:
    """What the slices of a call have done so far, those before a lost connection included; a
    mutable record. lines are as they may be shown."""

    rows_changed: int = 0
    rows_lost: int = 0
    batches_lost: int = 0
    lines: list[str] = field(default_factory=list)

    def add(self, done: SliceResult) -> None:
        self.rows_changed += done.rows_changed
        self.rows_lost += done.rows_lost
        self.batches_lost += done.batches_lost
        if done.rows_changed or not done.done:
            self.lines.append(printable.text(done.progress))


def run(
    one: Callable[[], SliceResult], told: Told, seen: Seen, *, seconds: float, tell: Tell
) -> SliceResult:
    """Do slices, at least one, until the work is done or stopped, or another one might end after
    so many seconds. The last one's result, with what all of them have changed and lost."""
    started = time.monotonic()
    while True:
        known = len(told.lines)
        done = one()
        seen.began = None
        told.add(done)
        for line in told.lines[known:]:
            tell(_shown(line, done))
        so_far = time.monotonic() - started
        if done.done or done.stopped or so_far + done.slice_seconds > seconds:
            return replace(
                done,
                changed=told.rows_changed > 0,
                rows_changed=told.rows_changed,
                rows_lost=told.rows_lost,
                batches_lost=told.batches_lost,
                lines=tuple(told.lines),
            )


def _shown(line: str, done: SliceResult) -> Shown:
    rate = done.rows_changed / done.slice_seconds if done.slice_seconds else 0.0
    return Shown(line, done.rows_done, round(rate), "; ".join(done.held))
