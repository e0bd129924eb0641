# SPDX-License-Identifier: GPL-3.0-or-later
"""How all hosts of an inventory stand, from what a playbook found on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backfill.progress import about
from ..ledger import Moment
from ..report.status import NOT_SIGNED
from .ended import (
    AT_WORK,
    BREACHED,
    FAILED,
    GONE,
    NO_ANSWER,
    NO_RUN,
    OK,
    OPEN,
    REVERTED,
    WAITING,
    Ended,
)


def of_runs(host: str, told: Mapping[str, Any]) -> Ended:
    """How the newest run of a host stands. told is as pgrunbook_run_info returns it."""
    altered = [s if s.startswith(NOT_SIGNED) else f"ALTERED {s}" for s in told["altered"]]
    if not told["runs"]:
        return Ended(host, NO_RUN, " ".join(altered))
    newest = told["runs"][0]
    now = told["moments"].get(newest["id"])
    standing = _standing(newest, Moment(**now)) if now else []
    why = " ".join([f"Run {newest['id']}.", *standing, *altered])
    return Ended(host, _state(newest, now), why, rows=newest["rows_changed"])


def _state(run: Mapping[str, Any], now: Mapping[str, Any] | None) -> str:
    if run["state"] == "running" and now:
        if Moment(**now).is_seen:
            return AT_WORK
        return GONE if now["decided"] else WAITING
    ended = {"failed": FAILED, "reverted": REVERTED}
    return ended.get(run["state"]) or run["verdict"] or OPEN


def of_gates(host: str, judged: Mapping[str, Any]) -> Ended:
    """Whether the gates of a host hold. judged is as pgrunbook_post_run returns it."""
    missed = [check for check in judged["checks"] if check["id"] in judged["breached"]]
    why = "; ".join(
        f"{check['title']}: wanted {check['target']}, measured {check['measured']}"
        for check in missed
    )
    return Ended(host, BREACHED if missed else OK, why)


def no_answer(host: str, why: str) -> Ended:
    """A host on which the playbook found nothing."""
    return Ended(host, NO_ANSWER, why or "The playbook did not get so far.")


def _standing(run: Mapping[str, Any], now: Moment) -> list[str]:
    """The progress of a run that is not over, when it was seen last, what it was told, what is
    missing, and why it stopped."""
    told = [f"{run['progress']['progress']};"] if run["progress"] else []
    told.append(f"seen {about(now.idle)} ago.")
    if run["control"]:
        told.append(f"Told to {run['control']} by {run['control_by']}.")
    if run["rows_per_second"]:
        told.append(f"Kept below {run['rows_per_second']:,} rows/s.")
    if now.missing:
        told.append(f"Missing now: index {', '.join(now.missing)}.")
    return [*told, *([now.error] if now.error and run["state"] == "failed" else [])]
