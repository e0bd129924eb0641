# SPDX-License-Identifier: GPL-3.0-or-later
"""Every run in the ledger, as status.yml shows it, and what control.yml tells one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..backfill.progress import about
from ..core import printable
from ..core.frame import hanging
from ..core.values import plain
from ..core.version import VERSION
from ..gates import alterations
from ..ledger import Control, Moment, RunStatus, Told
from ..ledger.evidence import Evidence
from ..signing.reread import Verified

_FRACTION = re.compile(r"\.\d+")  # of a second


PLAYBOOK = "ansible-playbook"
NOT_SIGNED = "NOT SIGNED"


def info(
    runs: Sequence[RunStatus],
    moments: Mapping[str, Moment],
    found: Evidence,
    command: str = PLAYBOOK,
) -> dict[str, Any]:
    """What the module returns: every run, how those stand that are not over, what of the ledger and
    of reports was altered, and notes on what is gone or cannot be known. command begins what a
    person types, with the inventory."""
    altered, notes = alterations.altered(found), alterations.notes(found)
    lines = [line for run in runs for line in of_run(run, moments.get(run.id), command)]
    return {
        "changed": False,
        "version": VERSION,
        "runs": plain(runs),
        "moments": plain(moments),
        "altered": altered,
        "notes": notes,
        "text": "\n".join([*(lines or ["No run yet."]), *_ending(altered, notes)]),
    }


def with_signatures(told: Mapping[str, Any], found: Verified) -> dict[str, Any]:
    """What info() gave, once the signatures of approved plans were verified again."""
    altered, notes = list(told["altered"]), list(told["notes"])
    before = "\n".join(_ending(altered, notes))
    altered += [printable.line(f"{NOT_SIGNED}  {sentence}") for sentence in found.not_signed]
    notes += map(printable.line, found.notes)
    ending = [f"SIGNED  {printable.line(each)}" for each in found.signed]
    text = told["text"].removesuffix(printable.text(before))
    return {
        **told,
        "altered": altered,
        "notes": notes,
        "text": text + "\n".join([*ending, *_ending(altered, notes)]),
    }


def _ending(altered: Sequence[str], notes: Sequence[str]) -> list[str]:
    """What is said below the runs."""
    holds = "Events, approvals, journals and reports are as they were written."
    found = [each if each.startswith(NOT_SIGNED) else f"ALTERED  {each}" for each in altered]
    return [*(found or [holds]), *(f"NOTE  {each}" for each in notes), f"pgrunbook {VERSION}"]


def of_run(run: RunStatus, now: Moment | None, command: str = PLAYBOOK) -> list[str]:
    """A run in a line; below it what else is known of it, and where it is not over, or not GO, what
    to type. now is how it stands, None where it is over. command is as info() takes it."""
    told = [_by(run, now)]
    told += [f"of rollout {', '.join(run.rollouts)}"] if run.rollouts else []
    if run.forgotten:
        what = "forgotten" if run.forgotten.whole else "being forgotten"
        told.append(f"journal {what}: by {run.forgotten.by}, {run.forgotten.at}")
    if now:
        told += [*_standing(run, now), *_next(run, now, command)]
    elif run.verdict == "NO-GO" and run.state == "finished":
        told.append(_back(run, command))
    return [_headline(run, now), *(part for line in told for part in _wrapped(line))]


def _wrapped(line: str) -> list[str]:
    """A line of what is known, indented; a command stays whole."""
    shown = printable.line(line)
    if PLAYBOOK in shown:
        return [f"  {shown}"]
    return hanging("  ", shown, 4)


def _headline(run: RunStatus, now: Moment | None) -> str:
    verdict = f" {run.verdict}" if run.verdict and run.state != "running" else ""
    refused = f" ({run.rows_refused:,} refused)" if run.rows_refused else ""
    return (
        f"{run.id}  {_word(run, now)}{verdict}, {run.rows_changed:,} of {run.rows_eligible:,} "
        f"rows{refused}"
    )


def _by(run: RunStatus, now: Moment | None) -> str:
    """Who began a run, and when it was seen last."""
    claimed = " (claimed)" if run.claimed else ""
    seen = f"seen {about(now.idle)} ago" if now else f"last seen {_FRACTION.sub('', run.seen_at)}"
    return f"by {run.operator}{claimed}, {seen}"


def _word(run: RunStatus, now: Moment | None) -> str:
    """The state of a run. One that runs by the ledger may have lost its ansible-playbook."""
    if run.state != "running" or now is None:
        return run.state
    if now.is_seen:
        return "paused" if run.control == "pause" else "at work"
    return "DEAD" if now.decided else "waits for an answer"


def _standing(run: RunStatus, now: Moment) -> list[str]:
    """What a run that is not over has said, was told and lacks."""
    if run.state == "failed":
        told = [f"stopped: {now.error}"] if now.error else []
    elif now.is_seen:
        paused = run.control == "pause"
        told = [run.progress["progress"]] if run.progress and not paused else []
        told += [f"told to {run.control} by {run.control_by}"] if run.control else []
        told += [f"kept below {run.rows_per_second:,} rows/s"] if run.rows_per_second else []
        told += [f"begun {about(now.age)} ago", *_locks(now)]
        told += [f"limits: {', '.join(now.limits)}"] if now.limits else []
    elif now.decided:
        told = ["nothing is at work: its ansible-playbook has died; what was committed is kept"]
    else:
        told = ["the second question is open, or its ansible-playbook is gone"]
    missing = f"missing now: index {', '.join(now.missing)}" if now.missing else ""
    names = [
        f"renamed: column {each}, so the application has to be on models that name the new one"
        for each in now.renamed
    ]
    return [*told, *names, missing or "no index that it dropped is missing"]


def _locks(now: Moment) -> list[str]:
    """Whom a run at work waits for, and who waits for it."""
    told = []
    if now.blocked_by:
        told.append(f"waits for a lock of pid {', '.join(map(str, now.blocked_by))}")
    if now.blocks:
        told.append(f"holds up pid {', '.join(map(str, now.blocks))}, which waits for its locks")
    return told or ["waits for no lock, and holds up nobody"]


def _next(run: RunStatus, now: Moment, command: str) -> list[str]:
    """What to type about a run that is not over."""
    if run.state != "running" or not now.is_seen:
        return [f"To go on with this run: {command} {run.playbook}", _back(run, command)]
    control = f"{command} playbooks/control.yml -e do="
    abort = f"To abort it (what was committed stays): {control}abort"
    later = f"To go back, once aborted: {_rollback(run, command)}"
    if run.control == "pause":
        return [f"To resume it: {control}resume", abort, later]
    slower = f"To slow it down: {control}throttle -e rows_per_second=2000"
    return [f"To pause it: {control}pause", abort, slower, later]


def _back(run: RunStatus, command: str) -> str:
    return f"To go back: {_rollback(run, command)}"


def _rollback(run: RunStatus, command: str) -> str:
    return f"{command} playbooks/rollback.yml -e run={run.id}"


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
