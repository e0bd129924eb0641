# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the plans of all hosts together, here on the controller, from what planning registered.

The module of its name has the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils

TEMPLATES = Path(__file__).resolve().parent / "templates"
PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, plain_vars
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.rollout import hosts as of_hosts
from ansible.module_utils.pgrunbook.rollout import page as pages
from ansible.module_utils.pgrunbook.rollout import stored
from ansible.module_utils.pgrunbook.rollout.hosts import Planned
from ansible.module_utils.pgrunbook.rollout.plan_file import NAME
from ansible.module_utils.pgrunbook.rollout.rollout import foreseen, put_together, why_refused
from ansible.module_utils.pgrunbook.rollout.to_sign import to_sign

ARGUMENTS: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "waves": {"type": "list", "elements": "raw", "default": [1, "25%", "100%"]},
    "canary": {"type": "str", "default": ""},
    "forks": {"type": "int", "default": 5},
    "folder": {"type": "path", "required": True},
    "approval": {"type": "str", "default": ""},
}


NOTHING = (
    "No host has a run of that rollout that was not taken back. Nothing was changed. Next step: "
    "playbooks/status.yml lists the runs of each host, and their rollouts."
)


class ActionModule(RunbookAction):
    """Nothing runs on a target: neither that nor a database is asked for anything."""

    _requires_connection = False
    mistake = "where the plans are put together. Nothing was changed."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        found = [_planned(host, task_vars["hostvars"][host]) for host in arguments["hosts"]]
        if all(each.over and not each.plan for each in found):
            return {"failed": True, "msg": NOTHING}
        given = (arguments["waves"], arguments["canary"], arguments["forks"])
        try:
            rollout = put_together(found, *given)
            text = pages.page(rollout)
            folder = Path(arguments["folder"])
            since = stored.changed_since(folder, arguments["approval"] or "none", rollout)
            kept = stored.keep(folder, rollout, text, TEMPLATES) if len(found) > 1 else ""
            signing = to_sign(rollout)
            alone = bool(self._task.check_mode and len(found) == 1 and signing.hosts)
            file = stored.keep_one(folder, rollout) if alone and found[0].needed else ""
        except RunbookError as error:
            return {"failed": True, "msg": printable.text(str(error))}
        told = {"plan_hash": arguments["approval"], "told": printable.line(since)}
        return {
            "changed": False,
            "rollout": {"id": rollout.id, "hash": rollout.hash, "members": plain(rollout.members)},
            "hosts": [host.host for host in rollout.to_do],
            "rows": {host.host: host.rows_eligible for host in rollout.to_do},
            "done": [host.host for host in rollout.done],
            "sizes": list(rollout.sizes),
            "hash": rollout.hash,
            "title": rollout.title,
            "needed": any(host.needed for host in rollout.to_do),
            "foreseen": foreseen(rollout),
            "refused": printable.text(why_refused(rollout)),
            "alternatives": [told] if since else [],
            "path": kept,
            "plan_file": file or (kept and str(Path(kept).with_name(NAME))),
            "signing": plain(signing),
            "proof": of_hosts.proof(found),
            "text": text,
        }


def _planned(host: str, of: Mapping[str, Any]) -> Planned:
    result = plain_vars(of.get("runbook_plan")) or {}
    refused = str(of.get("runbook_refusal") or "")
    gates = [gate for gate in result.get("checks", []) if gate["status"] == "fail"]
    preflight = plain_vars(of.get("runbook_preflight")) or {}
    gates = [g for g in preflight.get("checks", []) if g["status"] == "fail"] + gates
    foreseen = [f"{g['title']}: wanted {g['target']}, measured {g['measured']}" for g in gates]
    left_out = "runbook_undone_run" in of and not of["runbook_undone_run"]
    return of_hosts.planned(host, result, foreseen, refused, left_out=left_out)
