# SPDX-License-Identifier: GPL-3.0-or-later
"""Check who is to be told of events, and tell of what only the controller knows.

The module of its name has the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, plain_vars
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.notify import hooks

ARGUMENTS: dict[str, Any] = {
    "kind": {"type": "str", "required": True, "choices": ["none", "plan_made", "plan_refused"]},
    "why": {"type": "str", "default": ""},
}


class ActionModule(RunbookAction):
    """Nothing runs on the target: neither this nor the database is asked for anything."""

    _requires_connection = False
    mistake = "where others are told of an event. Nothing was changed in the database."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        kind = arguments["kind"]
        if kind == "none":
            return self._checked(task_vars)
        if kind == "plan_refused":
            self.teller.happened(kind, {"why": arguments["why"]})
        else:
            plan = plain_vars(task_vars["runbook_plan"])
            self.teller.happened(kind, {key: plan[key] for key in ("plan_hash", "needed")})
        return {"changed": False, "told": True}

    def _checked(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        try:
            hooks.hooks(self._variable("runbook_notify", task_vars) or [])
        except RunbookError as error:
            return {"failed": True, "msg": printable.text(error)}
        return {"changed": False, "told": False}
