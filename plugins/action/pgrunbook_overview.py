# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together how all hosts stand, here on the controller, from what a playbook registered.

The module of its name has the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, plain_vars
from ansible.module_utils.pgrunbook.rollout import ended, overview

ARGUMENTS: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "of": {"type": "str", "required": True, "choices": ["runs", "gates"]},
}
REGISTERED = {"runs": "status_result", "gates": "runbook_judged"}
STEPS = ("runbook_validation", "runbook_drift", "runbook_queries")


class ActionModule(RunbookAction):
    """Nothing runs on a target: neither that nor a database is asked for anything."""

    _requires_connection = False
    mistake = "where the hosts are put together. Nothing was changed."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        found = [
            _standing(host, arguments["of"], task_vars["hostvars"][host])
            for host in arguments["hosts"]
        ]
        text = f"{ended.table(found)}\n\n{ended.counted(found)}"
        return {"changed": False, "text": text.lstrip("\n")}


def _standing(host: str, of: str, told: Mapping[str, Any]) -> ended.Ended:
    result = plain_vars(told.get(REGISTERED[of])) or {}
    if of == "runs" and "runs" in result:
        return overview.of_runs(host, result)
    if of == "gates" and "checks" in result:
        return overview.of_gates(host, result)
    messages = [(told.get(name) or {}).get("msg") for name in (REGISTERED[of], *STEPS)]
    return overview.no_answer(host, next((str(each) for each in messages if each), ""))
