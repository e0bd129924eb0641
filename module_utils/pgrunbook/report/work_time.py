# SPDX-License-Identifier: GPL-3.0-or-later
"""The time axis of the report's plots: seconds of work, without the pauses between them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..ledger import BatchPoint, SlicePoint

PAUSE_SECONDS = 20.0  # without work, from which on a plot marks a pause


class Work:
    """Maps moments to seconds of work: the time in which nothing was done, such as that at a
    prompt or between two executions, takes no room."""

    def __init__(self, slices: Sequence[SlicePoint], batches: Sequence[BatchPoint]) -> None:
        points: list[SlicePoint | BatchPoint] = [*slices, *batches]
        ends = [(_time(point.at), point.seconds or 0.0) for point in points]
        self._spans = _merged(sorted((end - seconds, end) for end, seconds in ends))

    def at(self, moment: str) -> float:
        """How many seconds were worked until then."""
        then = _time(moment)
        return sum(min(max(then - begin, 0.0), end - begin) for begin, end in self._spans)

    def pauses(self) -> list[float]:
        """At how many seconds of work there was a pause of PAUSE_SECONDS or more."""
        found, worked = [], 0.0
        for (begin, end), (following, _) in zip(self._spans, self._spans[1:], strict=False):
            worked += end - begin
            if following - end >= PAUSE_SECONDS:
                found.append(worked)
        return found


def _merged(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Overlapping spans of time as one; the spans in order of their begin."""
    merged: list[tuple[float, float]] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _time(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
