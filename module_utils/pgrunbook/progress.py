# SPDX-License-Identifier: GPL-3.0-or-later
"""The backfill's progress as a line of text."""

from __future__ import annotations

from typing import Any


def line(result: dict[str, Any], *, reverting: bool) -> str:
    """One slice's result: rows done and wanted, per cent, rows/s of the slice and time to go.

    While reverting, what is done is what no longer stands, so the count falls to zero.
    """
    done, eligible = result["rows_done"], result["rows_eligible"]
    seconds = result["slice_seconds"]
    rate = result["rows_changed"] / seconds if seconds else 0.0
    if reverting:
        left, text = done, f"{done:,} rows still to give back"
    else:
        left = max(eligible - done, 0)
        share = min(done / eligible, 1.0) if eligible else 1.0
        text = f"{done:,} of {eligible:,} rows  {share:6.1%}"
    closing = result["sweep"] and not reverting
    sweep = f"  closing sweep {result['sweep']}" if closing else ""
    stopped = "  stopped: the maintenance window is over" if result["stopped"] else ""
    return f"{text}  {rate:,.0f} rows/s  {to_go(left, rate)}{sweep}{stopped}"


def to_go(rows: int, rate: float) -> str:
    """How long the rows take at that rate (rows a second): "done", "1:05 to go" or "? to go"."""
    if not rows:
        return "done"
    if rate <= 0:
        return "? to go"
    minutes, seconds = divmod(round(rows / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} to go" if hours else f"{minutes}:{seconds:02} to go"
