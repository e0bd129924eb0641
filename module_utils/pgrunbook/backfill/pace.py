# SPDX-License-Identifier: GPL-3.0-or-later
"""How hard the backfill works while others feel it: additive increase, multiplicative decrease, as
TCP avoids congestion (Chiu and Jain 1989).

First batches get shorter: an application's commit waits until the WAL of the batch at hand is on
disk as well. At their shortest the workers begin to rest between them, which leaves processors and
disk to others half of the time at least, and shortens no single wait.
"""

from __future__ import annotations

WINDOW = 10  # looks after which it judges
TOLERATED = 1  # of them may be too slow: the second slowest counts, which is their 90th percentile
DECREASE = 0.5  # times as much, where others feel too much
INCREASE = 0.05  # of the most, where they do not
LEAST_TARGET_MS = 5.0  # batches of 2 ms are mostly their fixed cost: a tenth of the rows a second
LEAST_DUTY = 0.5  # the run takes at most twice as long: no less was felt with more rest


class Pace:
    """How long a batch should take, in milliseconds, and for which share of the time a worker works
    (duty, 1.0 is without rest). One thread changes it, others may read it.

    most_ms is what a batch takes where nobody feels too much.
    """

    def __init__(self, most_ms: float, target_ms: float | None = None, duty: float = 1.0) -> None:
        self._most_ms, self._least_ms = most_ms, min(LEAST_TARGET_MS, most_ms)
        wanted = most_ms if target_ms is None else target_ms
        self.target_ms = min(max(wanted, self._least_ms), most_ms)
        self.duty = min(max(duty, LEAST_DUTY), 1.0)
        self._looks = self._slow = 0

    def felt(self, *, too_slow: bool) -> bool:
        """Take in one look at what others feel; whether the pace is another one now. It slows down
        once more than TOLERATED of a window's looks were too slow, and speeds up a little after a
        window without that."""
        self._looks += 1
        self._slow += too_slow
        slows = self._slow > TOLERATED
        if not slows and self._looks < WINDOW:
            return False
        self._looks = self._slow = 0
        before = (self.target_ms, self.duty)
        if slows:
            self._slow_down()
        else:
            self._speed_up()
        return before != (self.target_ms, self.duty)

    def rest_seconds(self, milliseconds: float) -> float:
        """How long to rest after a batch that took so long."""
        return milliseconds / 1000 * (1 / self.duty - 1)

    def _slow_down(self) -> None:
        if self.target_ms > self._least_ms:
            self.target_ms = max(self.target_ms * DECREASE, self._least_ms)
        else:
            self.duty = max(self.duty * DECREASE, LEAST_DUTY)

    def _speed_up(self) -> None:
        if self.duty < 1.0:
            self.duty = min(self.duty + INCREASE, 1.0)
        else:
            self.target_ms = min(self.target_ms + INCREASE * self._most_ms, self._most_ms)
