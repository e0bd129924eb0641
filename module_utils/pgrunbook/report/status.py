# SPDX-License-Identifier: GPL-3.0-or-later
"""Every run in the ledger, as status.yml shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.connection import Connection
from ..ledger import list_runs


def info(conn: Connection, altered: list[str], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Every run, the newest first, what evidence.altered() found, and notes on what is gone or
    cannot be known."""
    found = list_runs(conn)
    lines = [line for run in found for line in _status(run)] or ["No run yet."]
    holds = "Events, approvals, journals and reports are as they were written."
    return {
        "changed": False,
        "runs": found,
        "altered": altered,
        "notes": list(notes),
        "text": "\n".join(
            [
                *lines,
                *([f"ALTERED  {sentence}" for sentence in altered] or [holds]),
                *(f"NOTE  {sentence}" for sentence in notes),
            ]
        ),
    }


def _status(run: dict[str, Any]) -> list[str]:
    """A run in a line, and while it is at work its progress and what it was told in another."""
    verdict = f" {run['verdict']}" if run["verdict"] else ""
    claimed = " (claimed)" if run.get("claimed") else ""
    refused = f" ({run['rows_refused']:,} refused)" if run.get("rows_refused") else ""
    lines = [
        f"{run['id']}  {run['state']}{verdict}, {run['rows_changed']:,} of "
        f"{run['rows_eligible']:,} rows{refused}, by {run['operator']}{claimed}, last seen "
        f"{run['seen_at']}"
    ]
    if run["state"] != "running":
        return lines
    told = [f"told to {run['control']} by {run['control_by']}"] if run["control"] else []
    if run["rows_per_second"]:
        told.append(f"kept below {run['rows_per_second']:,} rows/s")
    shown = [*([run["progress"]["progress"]] if run["progress"] else []), *told]
    return [*lines, *(f"  {text}" for text in shown)]
