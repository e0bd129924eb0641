# SPDX-License-Identifier: GPL-3.0-or-later
"""How much one batch takes on: as much as fits into the target duration."""

from __future__ import annotations

import threading
from typing import Any

WEIGHT = 0.4  # of the latest batch in the exponential average
MAX_STEP = 2.0  # a batch is at most twice, and at least half, as large as the one before
FIRST_MS_PER_UNIT = 1.0  # cautious start: milliseconds for a page, or for a row of a keyset

MAX_BYTES = 16 * 1024**2  # of its journal, which holds all values that a batch fills
FIRST_ROWS = 100  # of a batch before the first one was weighed
BYTES = "bytes a row"


class BatchSizes:
    """Sizes for batches of each kind, learned from how long batches took. Threads may share it.

    A kind is a pass of its own cost: the first of interleaved passes moves rows to other pages, and
    the last ones find fewer rows on a page than the others. A size counts pages, or rows by key.
    """

    def __init__(self, target_ms: float, learned: dict[str, float] | None = None) -> None:
        self._target_ms = target_ms
        self._sizes = dict(learned or {})
        self._row_bytes = self._sizes.pop(BYTES, None)
        self._costs: dict[str, float] = {}
        self._lock = threading.Lock()

    def aim(self, target_ms: float) -> None:
        """Have the next batches take so long."""
        with self._lock:
            self._target_ms = target_ms

    def size(self, kind: str) -> int:
        """How many units the next batch of this kind should take; at least 1."""
        with self._lock:
            return max(round(self._size(kind)), 1)

    def took(self, kind: str, units: int, milliseconds: float) -> None:
        """Learn from a batch: how many units it took, and how long."""
        cost = max(milliseconds, 0.1) / max(units, 1)
        with self._lock:
            before = self._costs.get(kind, cost)
            self._costs[kind] = WEIGHT * cost + (1 - WEIGHT) * before
            wanted, size = self._target_ms / self._costs[kind], self._size(kind)
            self._sizes[kind] = max(min(max(wanted, size / MAX_STEP), size * MAX_STEP), 1.0)

    def too_long(self, kind: str) -> None:
        """Learn from a batch that ran into the statement timeout: half of it next time."""
        with self._lock:
            self._costs.pop(kind, None)
            self._sizes[kind] = max(self._size(kind) / 2, 1.0)

    def max_rows(self) -> int:
        """The most rows that a batch should fill, so that its journal is about MAX_BYTES large."""
        with self._lock:
            row_bytes = self._row_bytes
        return FIRST_ROWS if row_bytes is None else max(int(MAX_BYTES / max(row_bytes, 1)), 1)

    def weighed(self, rows: int, size: int) -> None:
        """Learn from a batch how many bytes a row has in the journal; a heavier one counts at once,
        a lighter one by and by."""
        if not rows:
            return
        with self._lock:
            latest = size / rows
            before = latest if self._row_bytes is None else self._row_bytes
            self._row_bytes = max(latest, WEIGHT * latest + (1 - WEIGHT) * before)

    def learned(self) -> dict[str, Any]:
        """What others can start from: the size by kind, and the bytes of a row."""
        with self._lock:
            weight = {} if self._row_bytes is None else {BYTES: round(self._row_bytes, 1)}
            return {**self._sizes, **weight}

    def _size(self, kind: str) -> float:
        return self._sizes.get(kind, self._target_ms / FIRST_MS_PER_UNIT)


class RowLimit:
    """The most rows that a batch may fill, which shrinks where the server cannot do as many, and
    grows again. Threads may share it.

    left is how many rows may be filled altogether, as a canary has it; None is no limit.
    """

    def __init__(self, batch_rows: int, left: int | None = None) -> None:
        self._batch_rows, self._most, self._left = batch_rows, batch_rows, left

    def rows(self) -> int:
        """The most rows of the next batch."""
        return self._most if self._left is None else min(self._most, self._left)

    def shrink(self, rows: int) -> None:
        """Allow half of so many rows from now on."""
        self._most = max(rows // 2, 1)

    def halve(self) -> None:
        """Allow half as many as now."""
        self.shrink(self._most)

    def grow(self) -> None:
        """Allow a quarter more."""
        self._most = min(self._most + self._most // 4 + 1, self._batch_rows)

    def filled(self, rows: int) -> None:
        """Count rows that a batch has filled."""
        if self._left is not None:
            self._left -= rows

    def reached(self) -> bool:
        """Whether all rows that may be filled are filled."""
        return self._left is not None and self._left <= 0
