# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module pgrunbook_approval with the answer of pgrunbook_question, and with who runs the
playbook."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, account, is_sealed, main_of

NOT_ASKED = (
    "The answer is none that this execution has got: nobody approved the plan. Nothing was "
    "changed. Next step: run the whole playbook, without --tags or --start-at-task."
)


class ActionModule(RunbookAction):
    """An answer that was typed, or passed, has the seal of this execution of ansible-playbook."""

    main = main_of(__file__)
    mistake = "where the approval is recorded. It has begun no step of the plan."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = dict(self._task.args)
        answer = arguments.pop("answer", None) or {}
        rollout = arguments.get("rollout")
        if rollout:
            arguments["rollout"] = {**rollout, "host": task_vars["inventory_hostname"]}
        wanted = _wanted(arguments)
        if not is_sealed(answer) or any(answer[key] != wanted[key] for key in wanted):
            return {"failed": True, "msg": NOT_ASKED}
        given = {
            **arguments,
            "method": answer["method"],
            # Those of a rollout's first question come with the answer to the second one too.
            "signatures": answer["signatures"] if arguments["scope"] == "plan" else [],
            "controller_user": account(os.getuid()),
            "controller_uid": os.getuid(),
        }
        return self._call(given, task_vars)


def _wanted(arguments: dict[str, Any]) -> dict[str, str]:
    """What was to be answered: with several hosts the rollout, for the first of them with the plan,
    for the others once that had ended; with one host its plan, scope by scope."""
    rollout = arguments.get("rollout") or {}
    members = rollout.get("members", [])
    if len(members) < 2:
        return {"hash": arguments["run"]["plan_hash"], "scope": arguments["scope"]}
    if arguments["scope"] == "rollback":
        return {"hash": rollout["hash"], "scope": "rollback"}
    first = members[0]["host"] == rollout["host"]
    return {"hash": rollout["hash"], "scope": "plan" if first else "waves"}
