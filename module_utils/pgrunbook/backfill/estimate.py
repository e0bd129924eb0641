# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the backfill will take, from what was measured on this database. Only reads.

Estimates are shown and never hashed: they must not void an approval.
"""

from __future__ import annotations

from typing import Any

from .. import ledger
from ..core.connection import Connection, one
from ..core.spec import Spec
from ..core.window import seconds_left


def backfill_seconds(conn: Connection, spec: Spec, rows: int) -> tuple[float | None, str]:
    """About how many seconds of work filling so many rows takes, at the rate that the latest run of
    the phase on this table had while nobody held or throttled it, and which run that was; None
    where there is none, and then why, if there were runs."""
    found = ledger.measured_rate(conn, spec.phase, str(spec.table))
    if not found:
        return None, ""
    if not found["rows_per_second"]:
        return None, "the runs of this phase were kept below a rate that somebody set"
    workers = f"{found['workers']} worker{'s' if found['workers'] > 1 else ''}"
    return round(rows / found["rows_per_second"], 1), (
        f"at the {found['rows_per_second']:,.0f} rows/s of run {found['run_id']} "
        f"({found['rows']:,} rows, {found['strategy']}, {workers}{_left_out(found)})"
    )


def _left_out(found: dict[str, Any]) -> str:
    rows = found["throttled_rows"]
    return f"; {rows:,} rows at a rate that somebody set are left out" if rows else ""


def rows_left(conn: Connection, spec: Spec, run_id: str) -> dict[str, Any] | None:
    """What is left of the run: rows and batches to come, and the seconds of work that they take at
    the rate that the run had so far, VACUUM and index builds apart.

    Besides rows, batches and seconds it has rows_per_second, rows_measured, rows_throttled (filled
    at a rate that somebody set, and not measured), seconds_worked so far, and window_seconds, the
    time to the window's end, which is None where it has none. None where the run has filled
    nothing; seconds and rows_per_second are None where it filled nothing at a rate of its own.
    """
    found = ledger.measured_rate(conn, spec.phase, str(spec.table), run_id)
    if not found:
        return None
    rate = found["rows_per_second"]
    run = one(
        conn,
        "SELECT r.seconds, greatest(r.rows_eligible - coalesce(sum(b.row_count), 0), 0)::int8"
        " AS rows, avg(b.row_count) FILTER (WHERE b.row_count > 0)::float8 AS rows_per_batch"
        " FROM pgrunbook.run r LEFT JOIN pgrunbook.batch b"
        "   ON b.run_id = r.id AND b.reverted_at IS NULL"
        " WHERE r.id = %s GROUP BY r.id",
        (run_id,),
    )
    left = seconds_left(spec)
    return {
        "rows": run["rows"],
        "batches": -(-run["rows"] // max(round(run["rows_per_batch"] or 1), 1)),
        "seconds": round(run["rows"] / rate, 1) if rate else None,
        "rows_per_second": round(rate) if rate else None,
        "rows_measured": found["rows"],
        "rows_throttled": found["throttled_rows"],
        "seconds_worked": round(run["seconds"], 3),
        "window_seconds": None if left is None else round(left, 1),
    }
