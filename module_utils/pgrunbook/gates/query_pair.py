# SPDX-License-Identifier: GPL-3.0-or-later
"""A query on the filled columns and the one that it replaces, measured in turn; and the one rule
that says whether the first is fast enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.spec import Spec
from ..core.values import IF_ANY
from ..ddl.index_advice import IndexAdvice
from .processor_time import Side

WARM_CACHE_PROCESSOR_RATIO = 2.0  # times less processor time, at least, where buffers decide

LEAST_RATIO = 0.01  # what a ratio counts as at least where it is turned round

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SpeedUp:
    """How many times better a query is than the one that it replaces; read_from_outside is whether
    a page of either came from outside shared buffers."""

    time_ratio: float
    buffer_ratio: float
    read_from_outside: bool


@dataclass(frozen=True, kw_only=True)
class Ratios(SpeedUp):
    """The same, with processor time."""

    processor_ratio: float


@dataclass(frozen=True, kw_only=True)
class Measurement(Ratios):
    """Both queries, measured so many times: whether their results are equal, how many rows these
    have, each ratio's 95 % interval, and the seed of the bootstrap. snapshot is the query on the
    filled columns, baseline the one that it replaces."""

    equal: bool
    rows: int
    runs: int
    time_interval: Interval
    processor_interval: Interval
    buffer_interval: Interval
    seed: int
    snapshot: Side
    baseline: Side


@dataclass(frozen=True, kw_only=True)
class Trial(Measurement):
    """What the trial of an index measured with it: its size, how long the build took, whether it
    was kept, whether the query meets its speed-up with equal results, and the ratios without the
    index."""

    bytes: int
    seconds: float
    kept: bool
    met: bool
    without: Ratios


@dataclass(frozen=True, kw_only=True)
class Advice(IndexAdvice):
    """The index advice of one query: why it was not tried though the phase says so, or what its
    trial found."""

    not_tried: str | None = field(default=None, metadata=IF_ANY)
    tried: Trial | None = field(default=None, metadata=IF_ANY)


@dataclass(frozen=True, kw_only=True)
class QueryPair(Measurement):
    """A pair of the phase, by its name, and the index advice where it misses its speed-up."""

    name: str
    proposal: Advice | None = None


def times(ratio: float, better: str, worse: str, interval: Interval | None = None) -> str:
    """A ratio as a person reads it, with its interval where it is given: 6.7 × slower [5–7.1], not
    0.15 × [0.14–0.2]; no faster, where two digits tell no difference."""
    up = ratio >= 1
    ends = sorted(end if up else 1 / max(end, LEAST_RATIO) for end in interval or ())
    shown = f" [{_short(ends[0])}–{_short(ends[1])}]" if interval else ""
    factor = _short(ratio if up else 1 / max(ratio, LEAST_RATIO))
    if factor == "1":
        return f"no {better}{shown}"
    return f"{factor} × {better if up else worse}{shown}"


def in_words(of: SpeedUp) -> str:
    """How many times better or worse, in time and in buffers."""
    time = times(of.time_ratio, "faster", "slower")
    return f"{time}, {times(of.buffer_ratio, 'fewer buffers', 'more buffers')}"


def _short(number: float) -> str:
    """Two digits that count, and all before the point."""
    return f"{float(f'{number:.2g}') if number < 100 else round(number):,g}"


def decide(pair: Measurement, speedup_min: float) -> tuple[bool | None, str]:
    """The speed-up gate's one rule: whether it passes, and which part of the rule decided.

    It passes on the median time; or, where no page came from outside shared buffers, so that a
    warm cache hides what is saved, on the buffers touched, if processor time is at least halved and
    the query is not slower. A ratio reaches its threshold where its whole interval does. Where an
    interval that matters is on both sides of its threshold the first value is None, and the second
    one that interval's ratio.
    """
    faster = _reaches(pair.time_interval, speedup_min)
    if faster:
        return True, "time"
    if pair.read_from_outside:
        why = "time (pages were read from outside shared buffers)"
        return faster, "time" if faster is None else why
    warm = {
        "buffers": _reaches(pair.buffer_interval, speedup_min),
        "processor time": _reaches(pair.processor_interval, WARM_CACHE_PROCESSOR_RATIO),
        "latency": _reaches(pair.time_interval, 1.0),
    }
    missed = [part for part, reached in warm.items() if reached is False]
    if all(warm.values()):
        return True, "buffers (the cache was warm)"
    if faster is None:
        return None, "time"
    if missed:
        return False, f"{missed[0]} (the cache was warm)"
    return None, next(part for part, reached in warm.items() if reached is None)


def _reaches(interval: Sequence[float], least: float) -> bool | None:
    """Whether a ratio reaches a threshold; None where its interval is on both sides."""
    low, high = interval
    return True if low >= least else False if high < least else None


def met(spec: Spec, pair: Measurement) -> tuple[bool, str]:
    """Whether a pair meets the phase's speed-up, and what decided that, in words. One that is too
    close to call does not."""
    passed, part = decide(pair, spec.speedup_min)
    if passed is None:
        return False, f"too close to call after {pair.runs} runs, because of {part}"
    return passed, f"decided by {part}"
