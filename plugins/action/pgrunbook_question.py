# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a person to approve a plan, or compare the hash that was passed. Nothing is recorded here.

The module of its name has the documentation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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

from ansible.module_utils.pgrunbook.action import (
    RunbookAction,
    account,
    is_sealed,
    plain_vars,
    sealed,
)
from ansible.module_utils.pgrunbook.core import printable, typed
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.frame import framed
from ansible.module_utils.pgrunbook.core.typed import TYPED
from ansible.module_utils.pgrunbook.core.values import plain, read
from ansible.module_utils.pgrunbook.signing import verify
from ansible.module_utils.pgrunbook.signing.counted import Rules
from ansible.module_utils.pgrunbook.signing.signature import Signature
from ansible.module_utils.pgrunbook.signing.statement import SignedHost, Statement

SECOND = ("waves", "backfill")  # scopes of the questions that are not the first of a run
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
    "signing": {"type": "dict", "default": {}},
    "signatures": {"type": "raw"},
    "allowed_signers": {"type": "str", "default": ""},
    "revoked_signers": {"type": "str", "default": ""},
    "operator": {"type": "str", "default": ""},
    "first_answer": {"type": "dict", "default": {}},
    "verify_only": {"type": "bool", "default": False},
}
OTHERWISE = {"rollback": "roll back", "forget": "forget a run"}
NOT_SIGNED = (
    "The approval to {what} takes no signatures: only the plan of a run does, so that going back "
    "waits for nobody. Nothing was changed. Next step: leave approval_signatures out."
)

display = Display()


class ActionModule(RunbookAction):
    """The answer is compared here and is never a variable, so that no other can stand for it."""

    _requires_connection = False
    mistake = "where the approval is asked for. Nothing was changed."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        wanted, approval = arguments["hash"], arguments["approval"]
        others, signatures = arguments["alternatives"], []
        if approval is None:
            refusal = ""
        else:
            refusal = _refusal(approval, wanted, others, task_vars.get("approval"))
        if not refusal:
            signatures, refusal = _signatures(arguments)
        if arguments["verify_only"] and not refusal:
            return {"changed": False, "signed": [_signed(each) for each in signatures]}
        if approval is None and not refusal:
            refusal = self._nobody(task_vars, arguments["scope"])
            refusal = refusal or self._ask(arguments, signatures)
        if refusal:
            return {"failed": True, "msg": refusal}
        answer = {
            "hash": wanted,
            "scope": arguments["scope"],
            "method": "prompt" if approval is None else "unattended",
            "signatures": signatures,
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

    def _ask(self, arguments: dict[str, Any], signatures: list[dict[str, str]]) -> str:
        """Why the plan was not approved; empty where it was."""
        scope, others = arguments["scope"], arguments["alternatives"]
        token = _token(arguments["hash"], scope)
        told = {"scope": scope, "title": arguments["title"], "plan_hash": arguments["hash"]}
        self.teller.happened("waiting_for_approval", told)
        signed = ["", *map(_signed, signatures)] if signatures else []
        lines = "\n".join([arguments["summary"].rstrip("\n"), *signed])
        display.display(f"\n{framed(arguments['title'], lines)}\n")
        answer = typed.ask(token, _line, display.display, lambda said: bool(_changed(said, others)))
        if answer == token:
            return ""
        return (
            f"Not approved: the answer was {json.dumps(answer, ensure_ascii=False)}. "
            f"{_changed(answer, others)}{UNCHANGED if scope == 'plan' else ''}"
            "Next step: run again and type what the prompt names; without a terminal, pass "
            "-e approval=<hash> with the whole hash of the plan that the run shows."
        )


def _signatures(arguments: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
    """The signatures of what is approved, and why they do not do; empty where they do."""
    try:
        return plain(_verified(arguments)), ""
    except RunbookError as error:
        return [], printable.text(str(error))


def _verified(arguments: dict[str, Any]) -> Sequence[Signature]:
    """The signatures of what is approved. Those of a run's first question cover what follows.
    Raises RunbookError where one does not count, or there are too few."""
    scope, paths = arguments["scope"], verify.paths(plain_vars(arguments["signatures"]))
    if scope == "waves":
        first = plain_vars(arguments["first_answer"])
        counts = is_sealed(first) and first["hash"] == arguments["hash"]
        return [read(Signature, each) for each in first["signatures"]] if counts else []
    if paths and scope in OTHERWISE:
        raise RunbookError(NOT_SIGNED.format(what=OTHERWISE[scope]))
    if scope != "plan":
        return []
    signing = plain_vars(arguments["signing"])
    hosts = tuple(read(SignedHost, host) for host in signing.get("hosts", []))
    return verify.signatures(
        paths,
        Statement(arguments["hash"], scope, hosts),
        verify.Trust(arguments["allowed_signers"], arguments["revoked_signers"]),
        Rules(
            wanted=signing.get("wanted", 0),
            operators=(arguments["operator"], account(os.getuid())),
            operator_may_sign=signing.get("operator_may_sign", False),
        ),
        datetime.now(UTC),
    )


def _signed(signature: dict[str, str]) -> str:
    """The line of the question on somebody who has signed."""
    signer = printable.line(signature["signer"])
    return f"Signed    {signer}, key {signature['key']}, until {signature['expires_at']}"


def _token(of: str, scope: str) -> str:
    """What a person types. The second question of a run wants other digits than the first, so that
    nobody answers it by habit."""
    at = TYPED if scope in SECOND else 0
    return of[at : at + TYPED]


def _line(prompt: str) -> str:
    """What a person types; empty where there is none, or they interrupt."""
    try:
        given = display.prompt_until(prompt)
    except (AnsiblePromptInterrupt, AnsiblePromptNoninteractive):
        return ""
    finally:
        display.display("")
    return to_text(given or b"", errors="surrogate_or_strict").strip()


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
