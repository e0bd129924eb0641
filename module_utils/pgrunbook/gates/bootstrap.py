# SPDX-License-Identifier: GPL-3.0-or-later
"""How sure a ratio of medians is: the percentile bootstrap (B. Efron, R. Tibshirani: An
Introduction to the Bootstrap, 1993, chapter 13)."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence

SEED = 7
RESAMPLES = 2000
CONFIDENCE = 0.95

Pairs = Sequence[tuple[float, float]]
Interval = tuple[float, float]


def intervals(measures: Mapping[str, Pairs]) -> dict[str, Interval]:
    """For each measure, the 95 % interval of the ratio of medians, first by second, rounded outward
    to two decimals.

    The pairs of a measure are those of repetitions in which both were measured one after the other,
    the same repetitions for all measures; no second value is 0. Whole repetitions are drawn with
    replacement, so what slows a repetition down is in both medians. The same values give the same
    intervals.
    """
    chance = random.Random(SEED)
    ratios: dict[str, list[float]] = {measure: [] for measure in measures}
    repetitions = range(len(next(iter(measures.values()))))
    for _ in range(RESAMPLES):
        drawn = chance.choices(repetitions, k=len(repetitions))
        for measure, pairs in measures.items():
            ratios[measure].append(ratio([pairs[n] for n in drawn]))
    return {measure: _middle(sorted(found)) for measure, found in ratios.items()}


def ratio(pairs: Pairs) -> float:
    """The median of the first values, divided by that of the second ones."""
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)


def _middle(ordered: Sequence[float]) -> Interval:
    """What is left of the values between both tails, outward to two decimals."""
    tail = round(len(ordered) * (1 - CONFIDENCE) / 2)
    low, high = ordered[tail], ordered[-1 - tail]
    return math.floor(round(low * 100, 6)) / 100, math.ceil(round(high * 100, 6)) / 100
