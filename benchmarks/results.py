# SPDX-License-Identifier: GPL-3.0-or-later
"""The stored results: one object a measurement, and medians over the repeated ones.

Times are seconds unless a name says ms, sizes are bytes. A measurement has a part: "alone" (a way
on the full table), "size" (on a smaller table), or "load" (with an application at work).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "benchmark.json"
UNLOADED = "unloaded"

Results = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A quantity that was measured count times."""

    median: float
    least: float
    most: float
    count: int


def save(results: Results, folder: Path, name: str = FILE_NAME) -> Path:
    """Write the results into a folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    unfinished = path.with_suffix(".new")
    text = json.dumps(results, indent=1, ensure_ascii=False)
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def load(folder: Path, name: str = FILE_NAME) -> Results:
    """The results of a folder. Raises FileNotFoundError where none are stored."""
    results: Results = json.loads((folder / name).read_text(encoding="utf-8"))
    return results


def records(
    results: Results, part: str, way: str | None = None, sessions: int | None = None
) -> list[Record]:
    """The measurements of a part, in the order of time."""
    return [
        record
        for record in results["measurements"]
        if record["part"] == part
        and way in (None, record["way"])
        and sessions in (None, record["sessions"])
    ]


def figure(found: Sequence[Record], *path: str) -> Figure | None:
    """The quantity at a path into each record, or None where it was never measured."""
    values = [value for record in found if (value := _at(record, path)) is not None]
    if not values:
        return None
    return Figure(statistics.median(values), min(values), max(values), len(values))


def of_size(results: Results, way: str, sessions: int) -> list[Record]:
    """The measurements of a way on a table of that size, nothing else at work."""
    part = "alone" if sessions == results["settings"]["sessions"] else "size"
    return records(results, part, way, sessions)


def sizes(results: Results) -> list[int]:
    """Every size that was measured, the smallest first."""
    return sorted({*results["settings"]["sizes"], results["settings"]["sessions"]})


def ratio(part: Figure | None, whole: Figure | None) -> float | None:
    """How many times the second the first is, by their medians."""
    return part.median / whole.median if part and whole and whole.median else None


def _at(record: Record, path: Sequence[str]) -> Any:
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
