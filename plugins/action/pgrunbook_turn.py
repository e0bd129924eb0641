# SPDX-License-Identifier: GPL-3.0-or-later
"""The turn of a host in a rollout: whether it may begin, and how it ended.

The module of its name has the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, plain_vars
from ansible.module_utils.pgrunbook.backfill.progress import about
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.rollout import tally, turn, waves
from ansible.module_utils.pgrunbook.rollout.ended import (
    FAILED,
    GO,
    LEFT,
    NO_GO,
    OPEN,
    STOPPED,
    UNDONE,
    Ended,
    Point,
    table,
)
from ansible.module_utils.pgrunbook.rollout.hosts import seconds

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "required": True, "choices": ["begun", "ended"]},
    "failures_max": {"type": "int", "default": 0},
    "window_margin": {"type": "float", "default": 0.2},
    "first": {"type": "bool", "default": False},
    "approved": {"type": "bool", "default": True},
    "why": {"type": "str", "default": ""},
    "stopped": {"type": "bool", "default": False},
}
NOT_APPROVED = (
    "It was not begun, because nobody approved a plan for it. Nothing was changed. Next step: run "
    "the whole playbook, without --tags or --start-at-task."
)
FOLDER = tally.folder(constants.DEFAULT_LOCAL_TMP)


class ActionModule(RunbookAction):
    """Nothing runs on the target: neither this nor the database is asked for anything."""

    _requires_connection = False
    mistake = "where the hosts of the rollout take turns."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        host = task_vars["inventory_hostname"]
        if arguments["state"] == "begun":
            why = self._why_not(arguments, task_vars)
            text = f"{'begins':<11}  {printable.line(host)}"
            if why:
                tally.note(FOLDER, Ended(host, LEFT, why))
                text = table([Ended(host, LEFT, why)])
            return {"changed": False, "begins": not why, "why": why, "text": text}
        ended = _ended(host, arguments, task_vars)
        tally.note(FOLDER, ended)
        self.teller.happened(*_told(ended, task_vars))
        others = _others_take(ended, task_vars)
        return {"changed": False, "others_take": others, "text": table([ended])}

    def _why_not(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> str:
        plan = plain_vars(task_vars["runbook_plan"])
        spec = plan["plan"]["spec"]
        return turn.why_not(
            tally.failed(FOLDER),
            failures_max=arguments["failures_max"],
            opens="" if "undoes" in plan["plan"] else spec["window_start"],
            window="" if arguments["first"] else spec["window_end"],
            seconds=_seconds(plan, _of_a_row(task_vars["runbook_rollout"]["hosts"][0])),
            margin=arguments["window_margin"],
            not_approved="" if arguments["approved"] else NOT_APPROVED,
        )


def _told(ended: Ended, task_vars: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What others are told of the end of a host: the kind of the event, and its details."""
    report = (plain_vars(task_vars.get("runbook_report")) or {}).get("report", {})
    if ended.state in (FAILED, STOPPED):
        return ("stopped" if ended.state == STOPPED else "failed"), {"why": ended.why}
    if ended.state == UNDONE:
        return "rolled_back", {"rows": ended.rows}
    reasons, verdict = report.get("reasons", []), report.get("verdict", "")
    return "finished", {"verdict": verdict, "reasons": reasons, "rows": ended.rows}


def _of_a_row(host: str) -> float | None:
    """How long a row took on the canary host; None where that has not ended yet."""
    canary = tally.of(FOLDER, host)
    return canary.seconds_a_row if canary else None


def _seconds(plan: dict[str, Any], of_a_row: float | None) -> float | None:
    """About how long a host takes, by its own plan or as fast as the canary host."""
    return seconds(plan.get("estimates"), plan["counts"]["rows_eligible"], of_a_row)


def _others_take(ended: Ended, task_vars: dict[str, Any]) -> str:
    """About how long all waves after the canary host take; empty where nobody knows, and as told by
    any other host."""
    rollout = plain_vars(task_vars["runbook_rollout"])
    if ended.host != rollout["hosts"][0] or ended.state != GO:
        return ""
    plans = [plain_vars(task_vars["hostvars"][host]["runbook_plan"]) for host in rollout["hosts"]]
    each = [_seconds(plan, ended.seconds_a_row) for plan in plans]
    found = [
        waves.seconds(wave, task_vars["ansible_forks"])
        for wave in waves.split(each, rollout["sizes"])[1:]
    ]
    return "" if None in found else about(sum(wave or 0.0 for wave in found))


def _ended(host: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> Ended:
    """How a host ended, from what its steps registered."""
    report = plain_vars(task_vars.get("runbook_report")) or {}
    told = report.get("report", {})
    figures = told.get("backfill", {})
    history = told.get("history", {"slices": [], "batches": []})
    state = {"GO": GO, "NO-GO": NO_GO}.get(told.get("verdict", ""), OPEN)
    if told.get("kind") == "rollback":
        state = UNDONE
    if arguments["why"]:
        state = STOPPED if arguments["stopped"] else FAILED
    return Ended(
        host,
        state,
        arguments["why"] or "; ".join(told.get("reasons", [])),
        rows=figures.get("rows_changed", 0),
        seconds=figures.get("seconds", 0.0),
        report=report.get("paths", {}).get("html", ""),
        missed=tuple(gate["title"] for gate in told.get("checks", []) if gate["status"] == "fail"),
        slices=tuple(Point(each["at"], each["rows_done"] or 0) for each in history["slices"]),
        batch_ms=max((each["p95_ms"] or 0.0 for each in history["batches"]), default=None),
    )
