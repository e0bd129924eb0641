# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates after the canary: whether what it filled is right, and how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass

from ..backfill.estimate import Estimate, rows_left
from ..backfill.progress import about
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.values import plain
from . import registry
from .data_gates import kept_measured, kept_target
from .gate import Gate, judge
from .row_comparison import ComparedRun, compare_run


@dataclass(frozen=True)
class CanaryGates:
    """What the gates after the canary found."""

    checks: tuple[Gate, ...]
    changed: bool = False


def measure(conn: Connection, spec: Spec, run_id: str) -> CanaryGates:
    """Compare every row that the run has changed with its source, and estimate from these rows what
    is left of the run."""
    left = rows_left(conn, spec, run_id)
    compared = canary(spec, compare_run(conn, spec, run_id))
    return CanaryGates((compared, estimate(spec, left)) if left else (compared,))


def canary(spec: Spec, run: ComparedRun) -> Gate:
    """The gate on the rows that the canary filled."""
    found, gone = run.compared, run.gone
    some = found.compared + (found.kept or 0) + (found.kept_alone or 0) > 0
    return judge(
        spec,
        registry.CANARY,
        target=f"≥ {spec.accuracy_min:g} % of {spec.canary_rows:,} rows{kept_target(spec, found)}",
        measured=f"{found.share} % of {found.compared:,} rows{kept_measured(spec, found)}"
        f"{_not_found(spec, gone)}",
        passed=some and found.share >= spec.accuracy_min,
        evidence={**plain(found), **({"gone": gone} if gone else {})},
    )


def _not_found(spec: Spec, gone: int) -> str:
    """What is known of rows that the canary filled and that are not there any more."""
    if not gone:
        return ""
    why = "deleted since, or given another key"
    if spec.waive_rollback:
        why = "somebody has written them again, or the whole table (pg_repack, ALTER TABLE)"
    return f"; {gone:,} more were not found again: {why}"


def estimate(spec: Spec, left: Estimate) -> Gate:
    """The gate on the time that is left."""
    window, seconds = left.window_seconds, left.seconds
    alone = left.rows_measured <= spec.canary_rows
    conditions = ", with one worker and all indexes in place" if alone else ""
    ends = "" if window is None else f"; the window ends in {about(max(window, 0.0))}"
    time = "nobody knows for how long: all that was filled was kept below a rate that somebody set"
    if seconds is not None:
        time = (
            f"{about(seconds)} at {left.rows_per_second:,} rows/s (measured on the "
            f"first {left.rows_measured:,} rows{conditions})"
        )
    return judge(
        spec,
        registry.ESTIMATE,
        target=f"done before {spec.window_end}" if spec.window_end else "measured",
        measured=f"{left.rows:,} rows in about {left.batches:,} batches, {time}{ends}",
        passed=window is None or (seconds is not None and seconds <= window),
        evidence=plain(left),
    )
