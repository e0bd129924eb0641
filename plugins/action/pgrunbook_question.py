# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a person to approve a plan, or compare the hash that was passed. Nothing is recorded here.

The module of its name has the documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible.errors import AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, sealed
from ansible.module_utils.pgrunbook.core.frame import framed

TYPED = 8  # digits of the hash that a person types
SECOND = ("waves", "backfill")  # scopes of the questions that are not the first of a run
TRIES = 3
DECLINED = ("", "n", "no", "stop", "q", "quit", "abort")
UNCHANGED = "Nothing was changed. "
JOBS = ("awx_job_id", "tower_job_id", "semaphore_vars")  # what AWX, AAP and Semaphore set
ARGUMENTS: dict[str, Any] = {
    "hash": {"type": "str", "required": True},
    "scope": {
        "type": "str",
        "required": True,
        "choices": ["plan", "waves", "backfill", "rollback", "forget"],
    },
    "title": {"type": "str", "default": ""},
    "summary": {"type": "str", "default": ""},
    "alternatives": {"type": "list", "elements": "dict", "default": []},
    "approval": {"type": "str"},
}

display = Display()


class ActionModule(RunbookAction):
    """The answer is compared here and is never a variable, so that no other can stand for it."""

    _requires_connection = False
    mistake = "where the approval is asked for. Nothing was changed."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        wanted, approval = arguments["hash"], arguments["approval"]
        if approval is None:
            refusal = self._nobody(task_vars, arguments["scope"]) or self._ask(arguments)
        else:
            others = arguments["alternatives"]
            refusal = _refusal(approval, wanted, others, task_vars.get("approval"))
        if refusal:
            return {"failed": True, "msg": refusal}
        answer = {
            "hash": wanted,
            "scope": arguments["scope"],
            "method": "prompt" if approval is None else "unattended",
        }
        return {"changed": False, "answer": {**answer, "seal": sealed(answer)}}

    def _nobody(self, task_vars: Mapping[str, Any], scope: str) -> str:
        """Why nobody can answer; empty where somebody may. A scheduler's job may have a terminal
        all the same, and would wait at it for ever."""
        told = self._templar.template(task_vars.get("runbook_unattended", False))
        named = next((name for name in JOBS if name in task_vars), "")
        if not named and not boolean(told, strict=False):
            return ""
        return (
            f"Not approved: {named or 'runbook_unattended'} is set, so nobody is asked. "
            f"{UNCHANGED if scope == 'plan' else ''}Next step: pass -e approval=<hash> with the "
            "whole hash of the plan, which a dry run shows."
        )

    def _ask(self, arguments: dict[str, Any]) -> str:
        """Why the plan was not approved; empty where it was."""
        scope, others = arguments["scope"], arguments["alternatives"]
        token = _token(arguments["hash"], scope)
        told = {"scope": scope, "title": arguments["title"], "plan_hash": arguments["hash"]}
        self.teller.happened("waiting_for_approval", told)
        display.display(f"\n{framed(arguments['title'], arguments['summary'])}\n")
        answer = ""
        for left in reversed(range(TRIES)):
            answer = _typed(f"Type {token} to approve, or no to stop:")
            if answer == token:
                return ""
            if answer.lower() in DECLINED or not left or _changed(answer, others):
                break
            tries = f"{left} more {'try' if left == 1 else 'tries'}"
            display.display(f"That is not {token}: {tries}.")
        return (
            f"Not approved: the answer was {json.dumps(answer, ensure_ascii=False)}. "
            f"{_changed(answer, others)}{UNCHANGED if scope == 'plan' else ''}"
            "Next step: run again and type what the prompt names; without a terminal, pass "
            "-e approval=<hash> with the whole hash of the plan that the run shows."
        )


def _token(of: str, scope: str) -> str:
    """What a person types. The second question of a run wants other digits than the first, so that
    nobody answers it by habit."""
    at = TYPED if scope in SECOND else 0
    return of[at : at + TYPED]


def _typed(prompt: str) -> str:
    """What a person types; empty where there is none, or they interrupt."""
    try:
        typed = display.prompt_until(prompt)
    except (AnsiblePromptInterrupt, AnsiblePromptNoninteractive):
        return ""
    finally:
        display.display("")
    return to_text(typed or b"", errors="surrogate_or_strict").strip()


def _refusal(approval: str, wanted: str, others: list[dict[str, str]], variable: Any) -> str:
    """Why an approval that was passed does not approve this plan; empty where it does. An
    expression would approve whatever plan there is."""
    if str(variable) != approval:
        return (
            "approval is an expression and not a hash, so it would approve any plan. Nothing was "
            "changed. Next step: read the plan above, then pass its hash with -e approval=<hash>."
        )
    if approval == wanted:
        return ""
    shown = json.dumps(approval if len(approval) <= 12 else approval[:9] + "...")
    why = _changed(approval, others) or (
        "The approval is mistyped, or the database or the phase has changed since. "
    )
    return (
        f"The approval {shown} is not the hash of this plan, {wanted}. {why}Nothing was "
        "changed. Next step: read the plan above, then pass its hash with -e approval=<hash>."
    )


def _changed(approval: str, others: list[dict[str, str]]) -> str:
    """What is said where an approval, or the beginning of one that was typed, is that of the same
    plan with another strategy; else empty."""
    if len(approval) < TYPED:
        return ""
    found = [other["told"] for other in others if other["plan_hash"].startswith(approval)]
    return f"{found[0]} " if found else ""
