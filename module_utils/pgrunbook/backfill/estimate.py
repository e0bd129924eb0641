# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the backfill will take, from what was measured on this database. Only reads.

Estimates are shown and never hashed: they must not void an approval.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import ledger
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.window import seconds_left
from ..ledger import MeasuredRate


@dataclass(frozen=True)
class Estimate:
    """What is left of a run: rows and batches to come, and the seconds of work that they take,
    VACUUM and index builds apart; None, like rows_per_second, where the run filled nothing at a
    rate of its own.

    rows_measured is what the rate is from; rows_throttled were filled at a rate that somebody set,
    and are not measured. window_seconds is the time to the window's end, None where it has none.
    """

    rows: int
    batches: int
    seconds: float | None
    rows_per_second: int | None
    rows_measured: int
    rows_throttled: int
    seconds_worked: float
    window_seconds: float | None


@dataclass(frozen=True)
class Filling:
    """How long filling takes, in seconds of work: about so many, between the least and the most,
    all None where that is not known; and what it was measured on, or why not."""

    seconds: float | None = None
    least: float | None = None
    most: float | None = None
    measured_on: str = ""


def backfill_seconds(conn: Connection, spec: Spec, rows: int) -> Filling:
    """How long filling so many rows takes at the rate of the latest run of the phase on this table.
    The least and the most are at the rates of its fast and slow slices."""
    found = ledger.measured_rate(conn, spec.phase, str(spec.table))
    if not found:
        return Filling()
    if not found.rows_per_second:
        return Filling(
            measured_on="the runs of this phase were kept below a rate that somebody set"
        )
    workers = f"{found.workers} worker{'s' if found.workers > 1 else ''}"
    return Filling(
        round(rows / found.rows_per_second, 1),
        round(rows / (found.fast or found.rows_per_second), 1),
        round(rows / (found.slow or found.rows_per_second), 1),
        f"at the {found.rows_per_second:,.0f} rows/s of run {found.run_id} "
        f"({found.rows:,} rows, {found.strategy}, {workers}{_left_out(found)})",
    )


def _left_out(found: MeasuredRate) -> str:
    rows = found.throttled_rows
    return f"; {rows:,} rows at a rate that somebody set are left out" if rows else ""


def rows_left(conn: Connection, spec: Spec, run_id: str) -> Estimate | None:
    """What is left of the run, at the rate that it had so far. None where it has filled nothing."""
    found = ledger.measured_rate(conn, spec.phase, str(spec.table), run_id)
    if not found:
        return None
    rate = found.rows_per_second
    work = ledger.work_left(conn, run_id)
    left = seconds_left(spec)
    return Estimate(
        rows=work.rows,
        batches=-(-work.rows // max(round(work.rows_per_batch or 1), 1)),
        seconds=round(work.rows / rate, 1) if rate else None,
        rows_per_second=round(rate) if rate else None,
        rows_measured=found.rows,
        rows_throttled=found.throttled_rows,
        seconds_worked=round(work.seconds, 3),
        window_seconds=None if left is None else round(left, 1),
    )
