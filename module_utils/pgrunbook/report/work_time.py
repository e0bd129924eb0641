# SPDX-License-Identifier: GPL-3.0-or-later
"""The time axis that all plots of a report share: seconds of work. A pause between them is a gap of
the same width, however long it was."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..ledger import BatchPoint, SlicePoint

PAUSE_SECONDS = 20.0  # without work, from which on the axis has a gap
GAP = 0.03  # of all seconds of work: how wide a gap is

Span = tuple[float, float]


@dataclass(frozen=True)
class Pause:
    """A pause: where its gap begins and ends on the axis, and how many seconds it took."""

    begin: float
    end: float
    seconds: float


class Work:
    """Maps moments to the axis: the time in which nothing was done, such as that at a prompt or
    between two executions, takes no room but a gap."""

    def __init__(self, slices: Sequence[SlicePoint], batches: Sequence[BatchPoint]) -> None:
        points: list[SlicePoint | BatchPoint] = [*slices, *batches]
        ends = [(_time(point.at), point.seconds or 0.0) for point in points]
        self._spans = _merged(sorted((end - seconds, end) for end, seconds in ends))
        self.seconds = sum(end - begin for begin, end in self._spans)
        self._resumed, self.pauses = self._found_pauses()
        self.end = self.seconds + sum(pause.end - pause.begin for pause in self.pauses)

    def _found_pauses(self) -> tuple[list[float], list[Pause]]:
        """When work went on after each pause, and the pauses."""
        worked = 0.0
        resumed: list[float] = []
        pauses: list[Pause] = []
        gap = self.seconds * GAP
        for (begin, end), (following, _) in zip(self._spans, self._spans[1:], strict=False):
            worked += end - begin
            if following - end >= PAUSE_SECONDS:
                at = worked + gap * len(pauses)
                resumed.append(following)
                pauses.append(Pause(at, at + gap, following - end))
        return resumed, pauses

    def worked(self, moment: str) -> float:
        """How many seconds were worked until then."""
        then = _time(moment)
        return sum(min(max(then - begin, 0.0), end - begin) for begin, end in self._spans)

    def at(self, moment: str) -> float:
        """Where a moment is on the axis."""
        return self.worked(moment) + sum(p.end - p.begin for p in self.pauses[: self.part(moment)])

    def part(self, moment: str) -> int:
        """How many pauses were over by then."""
        then = _time(moment)
        return sum(resumed <= then for resumed in self._resumed)

    def line(
        self, points: Iterable[tuple[str, float | None]], *, holds: bool = False
    ) -> tuple[list[float], list[float]]:
        """Moments and values as a line that is broken at each pause. holds: a value still held when
        work went on, so that the line begins with it again."""
        xs: list[float] = []
        ys: list[float] = []
        part, last = 0, math.nan
        for moment, value in points:
            if xs and self.part(moment) != part:
                xs.append(math.nan)
                ys.append(math.nan)
                if holds:
                    xs.append(self.pauses[self.part(moment) - 1].end)
                    ys.append(last)
            part, last = self.part(moment), math.nan if value is None else value
            xs.append(self.at(moment))
            ys.append(last)
        return xs, ys

    def place(self, worked: float) -> float:
        """Where the axis has this many seconds of work."""
        place = worked
        for pause in self.pauses:
            if place > pause.begin:
                place += pause.end - pause.begin
        return place


def _merged(spans: list[Span]) -> list[Span]:
    """Overlapping spans of time as one; the spans in order of their begin."""
    merged: list[Span] = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def _time(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
