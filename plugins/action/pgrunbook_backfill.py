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
LOST = "lost"  # codes of errors of the module
AT_WORK = "at_work"
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
        total, outage = dict.fromkeys(ADDED_UP, 0), _Outage(arguments["run"])
        while True:
            if os.getppid() != playbook:
                raise AnsibleError("ansible-playbook is gone, and nobody watches the backfill.")
            given = outage.bounded(arguments)
            result: dict[str, Any] = self._execute_module(module_args=given, task_vars=task_vars)
            if outage.goes_on(result):
                arguments = _after(arguments, result.get("seen"))
                display.display(outage.line(result["msg"]))
                continue
            if result.get("failed") or self._task.check_mode:
                return result
            total = {key: total[key] + result.get(key, 0) for key in ADDED_UP}
            seen = {"rows": result["rows_done"], "batches": result["batches_done"]}
            arguments = _after(arguments, seen, result.get("ansible_facts"))
            if result["rows_changed"] or not result["done"]:
                display.display(f"  {result['progress']}")
            if result["done"] or result["stopped"]:
                facts = {"ansible_facts": {"runbook_run": arguments["run"]}}
                return {**result, **total, "changed": total["rows_changed"] > 0, **facts}


class _Outage:
    """For how long there has been no primary, and how long the run waits for one, in seconds."""

    def __init__(self, run: dict[str, Any]) -> None:
        self._patience = run.get("reconnect_seconds") or 0
        self._since = 0.0

    def bounded(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call that waits for a few seconds only, so that there is a line."""
        waits = max(min(self._left(), WAITING_SECONDS), 0)
        run = {**arguments["run"], "reconnect_seconds": round(waits)}
        return {**arguments, "run": run}

    def goes_on(self, result: dict[str, Any]) -> bool:
        """Whether the module is to be called again, because it waited in vain and may go on."""
        # A session that was cut off may still hold its lock.
        lost = result.get("code") == LOST or (self._since and result.get("code") == AT_WORK)
        if not lost:
            self._since = 0.0
            return False
        self._since = self._since or time.monotonic() - WAITING_SECONDS
        return self._left() > 0

    def line(self, why: str) -> str:
        """A line of progress while there is no primary."""
        waited = time.monotonic() - self._since
        return f"  waiting for a primary, {waited:.0f} of at most {self._patience} s: {_brief(why)}"

    def _left(self) -> float:
        return self._patience - (time.monotonic() - self._since if self._since else 0.0)


def _brief(why: str) -> str:
    """What a message says last of all, without who connects where and what to do."""
    said = why.partition("Last of all: ")[2].partition(" Next step:")[0].partition(" What was")[0]
    return said.rpartition(" as ")[2].partition(": ")[2] or said or why


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
