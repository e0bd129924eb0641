# SPDX-License-Identifier: GPL-3.0-or-later
"""Every run in the ledger, as status.yml shows it, and what control.yml tells one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.values import plain
from ..core.version import VERSION
from ..gates import alterations
from ..ledger import Control, RunStatus, Told
from ..ledger.evidence import Evidence


def info(runs: Sequence[RunStatus], found: Evidence) -> dict[str, Any]:
    """What the module returns: every run, what of the ledger and of reports was altered, and notes
    on what is gone or cannot be known."""
    altered, notes = alterations.altered(found), alterations.notes(found)
    lines = [line for run in runs for line in _status(run)] or ["No run yet."]
    holds = "Events, approvals, journals and reports are as they were written."
    return {
        "changed": False,
        "version": VERSION,
        "runs": plain(runs),
        "altered": altered,
        "notes": notes,
        "text": "\n".join(
            [
                *lines,
                *([f"ALTERED  {sentence}" for sentence in altered] or [holds]),
                *(f"NOTE  {sentence}" for sentence in notes),
                f"pgrunbook {VERSION}",
            ]
        ),
    }


def told(run_id: str, given: Told) -> dict[str, Any]:
    """What the module returns: what a run is told, and what it was told before."""
    limit = given.after.rows_per_second
    rate = f"at most {limit:,} rows/s" if limit else "at full rate"
    return {
        "changed": given.changed,
        "text": f"Run {run_id}: {given.after.action or 'go on'}, {rate}.",
        "diff": {"before": _listing(given.before), "after": _listing(given.after)},
    }


def _listing(of: Control) -> str:
    return f"control: {of.action or 'none'}\nrows_per_second: {of.rows_per_second or 'none'}\n"


def _status(run: RunStatus) -> list[str]:
    """A run in a line, and while it is at work its progress and what it was told in another."""
    verdict = f" {run.verdict}" if run.verdict else ""
    claimed = " (claimed)" if run.claimed else ""
    refused = f" ({run.rows_refused:,} refused)" if run.rows_refused else ""
    lines = [
        f"{run.id}  {run.state}{verdict}, {run.rows_changed:,} of "
        f"{run.rows_eligible:,} rows{refused}, by {run.operator}{claimed}, last seen "
        f"{run.seen_at}"
    ]
    if run.rollouts:
        lines.append(f"  of rollout {', '.join(run.rollouts)}")
    if run.forgotten:
        what = "forgotten" if run.forgotten.whole else "being forgotten"
        lines.append(f"  journal {what}: by {run.forgotten.by}, {run.forgotten.at}")
    if run.state != "running":
        return lines
    ordered = [f"told to {run.control} by {run.control_by}"] if run.control else []
    if run.rows_per_second:
        ordered.append(f"kept below {run.rows_per_second:,} rows/s")
    shown = [*([run.progress["progress"]] if run.progress else []), *ordered]
    return [*lines, *(f"  {text}" for text in shown)]
