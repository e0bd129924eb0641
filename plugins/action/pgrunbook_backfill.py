# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module pgrunbook_backfill until it is done, with a line of progress for each call."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()


class ActionModule(ActionBase):
    """The module works for a slice of seconds and returns; Ansible shows nothing until then."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        super().run(tmp, task_vars)
        rows_changed, playbook = 0, os.getppid()
        while True:
            if os.getppid() != playbook:
                raise AnsibleError("ansible-playbook is gone, and nobody watches the backfill.")
            result: dict[str, Any] = self._execute_module(task_vars=task_vars)
            rows_changed += result.get("rows_changed", 0)
            if result.get("failed") or self._task.check_mode:
                return result
            if result["rows_changed"] or not result["done"]:
                display.display(f"  {result['progress']}")
            if result["done"] or result["stopped"]:
                return {**result, "rows_changed": rows_changed, "changed": rows_changed > 0}
