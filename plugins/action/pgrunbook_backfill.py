# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module pgrunbook_backfill until it is done, with a line of progress for each call."""

from __future__ import annotations

import os
import time
import traceback
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

TRACED_FROM = 3  # -vvv
LOST = "lost"  # the code of an error of the module
WAITING_SECONDS = 15.0  # for which the module waits itself, so that a line is shown as often
ADDED_UP = ("rows_changed", "rows_lost", "batches_lost")

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
        """Call the module until it is done. Where its connection is lost it waits for a primary for
        a few seconds, and is called again for as long as the run waits."""
        arguments, playbook = dict(self._task.args), os.getppid()
        patience = (arguments.get("run") or {}).get("reconnect_seconds", 0)
        total, waited_since = dict.fromkeys(ADDED_UP, 0), 0.0
        while True:
            if os.getppid() != playbook:
                raise AnsibleError("ansible-playbook is gone, and nobody watches the backfill.")
            left = patience - (time.monotonic() - waited_since if waited_since else 0.0)
            result = self._slice(arguments, min(left, WAITING_SECONDS), task_vars)
            if result.get("code") == LOST and left > WAITING_SECONDS:
                waited_since = waited_since or time.monotonic() - WAITING_SECONDS
                arguments = _after(arguments, result.get("seen"))
                display.display(_waiting(time.monotonic() - waited_since, patience, result["msg"]))
                continue
            waited_since = 0.0
            total = {key: total[key] + result.get(key, 0) for key in ADDED_UP}
            if result.get("failed") or self._task.check_mode:
                return {**result, "rows_changed": total["rows_changed"]}
            seen = {"rows": result["rows_done"], "batches": result["batches_done"]}
            arguments = _after(arguments, seen, result.get("ansible_facts"))
            if result["rows_changed"] or not result["done"]:
                display.display(f"  {result['progress']}")
            if result["done"] or result["stopped"]:
                moved = {"runbook_run": arguments["run"]} if "ansible_facts" in result else {}
                ended = {**result, **total, "changed": total["rows_changed"] > 0}
                return {**ended, "ansible_facts": moved}

    def _slice(
        self, arguments: dict[str, Any], waits: float, task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """One call of the module, which waits for a primary for so many seconds."""
        if waits > 0:
            run = {**arguments["run"], "reconnect_seconds": round(waits)}
            arguments = {**arguments, "run": run}
        result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        return result


def _after(
    arguments: dict[str, Any], seen: dict[str, Any] | None, facts: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of the next call: with what was seen to be committed, and the server that the
    run is on now."""
    run = arguments["run"]
    if facts:
        run = {**run, "server": facts["runbook_run"]["server"]}
    known = seen if seen and seen["rows"] is not None else arguments.get("seen")
    return {**arguments, "run": run, **({"seen": known} if known else {})}


def _waiting(seconds: float, patience: float, why: str) -> str:
    """A line of progress while there is no primary."""
    said = why.partition("Last of all: ")[2].partition(" Next step:")[0].partition(" What was")[0]
    return f"  waiting for a primary, {seconds:.0f} of at most {patience:.0f} s: {said or why}"
