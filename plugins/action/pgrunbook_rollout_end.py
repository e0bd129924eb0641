# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together how the hosts of a rollout ended, here on the controller.

The module of its name has the documentation."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.report import index
from ansible.module_utils.pgrunbook.report.files import store
from ansible.module_utils.pgrunbook.rollout import ended, report, tally

TEMPLATES = Path(__file__).resolve().parent / "templates"

ARGUMENTS: dict[str, Any] = {
    "rollout": {"type": "dict", "required": True},
    "declined": {"type": "str", "default": ""},
    "folder": {"type": "path", "required": True},
    "started_at": {"type": "str", "required": True},
}


class ActionModule(RunbookAction):
    """Nothing runs on a target: neither that nor a database is asked for anything."""

    _requires_connection = False
    mistake = "where the end of the rollout is told. The hosts have ended as their reports say."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        rollout = arguments["rollout"]
        told = tally.ended(tally.folder(constants.DEFAULT_LOCAL_TMP))
        hosts = ended.all_hosts(rollout["hosts"], rollout["done"], told)
        found = ended.verdict(hosts)
        why = "" if found == ended.GO else ended.why(hosts, arguments["declined"])
        result = {
            "changed": False,
            "hosts": plain(hosts),
            "verdict": found,
            "why": printable.text(why),
            "text": f"{ended.table(hosts)}\n\n{ended.counted(hosts)}",
        }
        if len(hosts) < 2 or not found:
            return {**result, "paths": {}}
        try:
            return {**result, "paths": _written(arguments, hosts, result["why"])}
        except RunbookError as error:
            return {"failed": True, "msg": printable.text(str(error))}


def _written(arguments: dict[str, Any], hosts: list[ended.Ended], why: str) -> dict[str, str]:
    """Write the report of the rollout; the paths of its files."""
    rollout, folder = arguments["rollout"], Path(arguments["folder"])
    told = {
        "id": rollout["rollout"]["id"],
        "title": rollout["title"],
        "hash": rollout["hash"],
        "started_at": arguments["started_at"],
        "finished_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    made = report.build(told, rollout["sizes"], hosts, why)
    paths = store(folder, made.id, report.files(made, _drawn(hosts), TEMPLATES, folder))
    with suppress(OSError):  # without the list of all reports there is still this one
        index.write(folder, TEMPLATES)
    return paths


def _drawn(hosts: list[ended.Ended]) -> dict[str, str]:
    """The plots; none where matplotlib is missing, which the hosts' own reports have said."""
    try:
        from ansible.module_utils.pgrunbook.rollout import plots
    except ImportError:
        return {}
    return plots.draw(hosts)
