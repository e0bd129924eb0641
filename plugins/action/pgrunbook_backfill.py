# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module pgrunbook_backfill until it is done, with a line of progress for each call."""

from __future__ import annotations

import os
import traceback
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

TRACED_FROM = 3  # -vvv

display = Display()


def unforeseen(error: Exception) -> dict[str, Any]:
    """A failure in a sentence for the person; where it happened from verbosity 3 on."""
    lines = traceback.format_exception(error)
    return {
        "failed": True,
        "msg": f"A mistake in pgrunbook: {type(error).__name__} where the calls of the backfill "
        "are made. Every batch that the ledger has is kept; playbooks/status.yml tells how far the "
        "run is. Next step: run the same again with -vvv, and give what it shows to whoever "
        "maintains pgrunbook.",
        **({"traceback": "".join(lines).splitlines()} if display.verbosity >= TRACED_FROM else {}),
    }


class ActionModule(ActionBase):
    """The module works for a slice of seconds and returns; Ansible shows nothing until then."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        super().run(tmp, task_vars)
        try:
            return self._slices(task_vars)
        except AnsibleError:
            raise
        except Exception as error:
            return unforeseen(error)

    def _slices(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
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
