# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's targets, and how far each is met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results import UNLOADED, Figure, Results, figure, of_size, ratio, records
from benchmarks.tables import NOT_MEASURED, table
from benchmarks.ways import label

RATIOS = (
    ("wall time ÷ one UPDATE's", "wall_seconds", "one-update"),
    ("wall time ÷ keyset's", "wall_seconds", "keyset"),
    ("WAL a row ÷ one UPDATE's", "wal_bytes_per_row", "one-update"),
    ("table after ÷ one UPDATE's", "table_bytes", "one-update"),
)
LIMITS = {"engine-1": (0.55, 0.34, 0.6, 0.56), "engine-2": (0.36, 0.22, 0.6, 0.56)}
"""The most that each of RATIOS may be, by the way."""


@dataclass(frozen=True)
class Target:
    """A quantity against another, by their medians, and the limit of that ratio."""

    text: str
    way: str
    part: Figure | None
    whole: Figure | None
    limit: float
    at_most: bool = True

    @property
    def ratio(self) -> float | None:
        """The ratio, or None where one of the two was not measured."""
        return ratio(self.part, self.whole)

    @property
    def counts(self) -> str:
        """How often the two were measured."""
        return f"{_count(self.part)} ÷ {_count(self.whole)}"

    @property
    def verdict(self) -> str:
        """met or missed, and by how many per cent of the limit."""
        if self.ratio is None:
            return "not measured"
        distance = f"{abs(self.ratio / self.limit - 1) * 100:.0f} %"
        side = "under" if self.ratio <= self.limit else "over"
        met = self.ratio <= self.limit if self.at_most else self.ratio >= self.limit
        return f"{'met' if met else '**missed**'}, {distance} {side}"


def targets(results: Results) -> list[Target]:
    """Every target, for one worker and for two."""

    def alone(way: str, name: str) -> Figure | None:
        return figure(records(results, "alone", way), name)

    def latency(way: str) -> Figure | None:
        return figure(records(results, "load", way), "application", "p99_ms")

    found = []
    for way, limits in LIMITS.items():
        for (text, name, other), limit in zip(RATIOS, limits, strict=True):
            found.append(Target(text, way, alone(way, name), alone(other, name), limit))
        back = alone(way, "rollback_whole_rows_per_second"), alone(way, "rows_per_second")
        text = "rollback's rows/s ÷ fill's, each with its indexes"
        found.append(Target(text, way, *back, 0.9, at_most=False))
        text = "application's p99 ÷ unloaded"
        found.append(Target(text, way, latency(way), latency(UNLOADED), 2.0))
    return [*found, _flatness(results)]


def _flatness(results: Results) -> Target:
    full = results["settings"]["sessions"]

    def rate(rows: int) -> Figure | None:
        return figure(of_size(results, "engine-1", rows), "rows_per_second")

    text = f"rows/s at {full:,} rows ÷ at 100,000"
    return Target(text, "engine-1", rate(full), rate(100_000), 0.8, at_most=False)


def target_table(found: Sequence[Target]) -> str:
    """The targets with what was measured, as Markdown."""
    rows = [
        [
            target.text,
            label(target.way),
            f"{'≤' if target.at_most else '≥'} {target.limit:g}",
            NOT_MEASURED if target.ratio is None else f"{target.ratio:.2f}",
            target.counts,
            target.verdict,
        ]
        for target in found
    ]
    return table(["", "way", "target", "measured", "n", ""], rows, text_columns=(0, 1, 5))


def _count(found: Figure | None) -> int:
    return found.count if found else 0
