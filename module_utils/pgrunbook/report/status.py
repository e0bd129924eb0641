# SPDX-License-Identifier: GPL-3.0-or-later
"""Every run in the ledger, as status.yml shows it, and what control.yml tells one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..backfill.progress import about
from ..core import printable
from ..core.values import plain
from ..core.version import VERSION
from ..gates import alterations
from ..ledger import Control, Moment, RunStatus, Told
from ..ledger.evidence import Evidence

_FRACTION = re.compile(r"\.\d+")  # of a second


def info(
    runs: Sequence[RunStatus], moments: Mapping[str, Moment], found: Evidence
) -> dict[str, Any]:
    """What the module returns: every run, how those stand that are not over, what of the ledger and
    of reports was altered, and notes on what is gone or cannot be known."""
    altered, notes = alterations.altered(found), alterations.notes(found)
    lines = [line for run in runs for line in of_run(run, moments.get(run.id))] or ["No run yet."]
    holds = "Events, approvals, journals and reports are as they were written."
    return {
        "changed": False,
        "version": VERSION,
        "runs": plain(runs),
        "moments": plain(moments),
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


def of_run(run: RunStatus, now: Moment | None) -> list[str]:
    """A run in a line, what it was told, and where it is not over how it stands."""
    return [*_status(run), *(_standing(run, now) if now else [])]


def _standing(run: RunStatus, now: Moment) -> list[str]:
    """How a run stands that is not over, and what to type."""
    go_back = f"To go back: playbooks/rollback.yml -e run={run.id}"
    again = ["To go on: run the playbook again.", go_back]
    if run.state == "failed":
        lines = [f"stopped: {now.error}"] if now.error else []
    elif now.is_seen:
        lines = [f"at work since {about(now.age)}, seen {now.idle:.0f} s ago"]
        again = ["To steer it: playbooks/control.yml -e do=pause, resume, abort or throttle"]
    elif now.decided:
        lines = [f"NOT SEEN since {about(now.idle)}: its ansible-playbook is gone"]
    else:
        lines = [
            f"waits for the second answer since {about(now.idle)}, or its ansible-playbook is gone"
        ]
    if now.missing:
        lines.append(f"missing now: index {', '.join(now.missing)}")
    return [f"  {printable.line(line)}" for line in (*lines, *again)]


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
        f"{_FRACTION.sub('', run.seen_at)}"
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
