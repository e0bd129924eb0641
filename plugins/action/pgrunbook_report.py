# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the report of a run, here on the controller, from the results of its steps.

The module of its name has the documentation. Only a plugin can have templates beside it: with a
module Ansible ships Python files and nothing else.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ansible.module_utils

TEMPLATES = Path(__file__).resolve().parent / "templates"
PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, imported

imported(
    "ansible.module_utils.pgrunbook.report.build",
    "ansible.module_utils.pgrunbook.report.files",
    "ansible.module_utils.pgrunbook.report.plots",
)
with suppress(ImportError):
    from ansible.module_utils.pgrunbook.report.pages import compile_ahead

    compile_ahead(TEMPLATES)

ARGUMENTS: dict[str, Any] = {
    "folder": {"type": "path", "required": True},
    "kind": {"type": "str", "choices": ["plan", "run", "rollback"], "default": "run"},
}

RESULTS = {
    "started_at": "runbook_started_at",
    "error": "runbook_error",
    "obstacles": "runbook_obstacles",
    "inventory": "runbook_inventory",
    "login": "runbook_login",
    "phase": "runbook_phase",
    "preflight": "runbook_preflight",
    "drift": "runbook_drift_before",
    "plan": "runbook_plan",
    "canary": "runbook_canary",
    "canary_gates": "runbook_canary_gates",
    "backfill": "runbook_backfill",
    "validation": "runbook_validation",
    "schema": "runbook_drift",
    "queries": "runbook_queries",
    "trial": "runbook_trial",
    "column": "runbook_columns",
    "record": "runbook_record",
}
"""What a report is made of, and the variable in which the playbooks have it."""


class ActionModule(RunbookAction):
    """Nothing runs on the target: neither this nor the database is asked for anything."""

    _requires_connection = False

    mistake = "where the report is made. Nothing was changed in the database."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        found = {name: self._value(variable, task_vars) for name, variable in RESULTS.items()}
        given = {**found, "finished_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        folder, dry = Path(arguments["folder"]), bool(self._task.check_mode)
        result = reported(folder, arguments["kind"], given, dry=dry)
        return listed(result, folder) if result.get("paths") and _is_alone(task_vars) else result

    def _value(self, variable: str, task_vars: dict[str, Any]) -> Any:
        """A variable as it is now; None where nobody has set it, and of a step that was passed
        over."""
        value = self._variable(variable, task_vars)
        return None if isinstance(value, dict) and value.get("skipped") else value


def _is_alone(task_vars: dict[str, Any]) -> bool:
    """Whether this is the only host of its rollout, or of the play before there is one."""
    hosts = (task_vars.get("runbook_rollout") or {}).get("hosts")
    return len(task_vars.get("ansible_play_hosts_all", [""]) if hosts is None else hosts) == 1


def reported(folder: Path, kind: str, given: dict[str, Any], *, dry: bool) -> dict[str, Any]:
    """Make the report of what is given, and write it unless dry; the result of the task."""
    try:
        from ansible.module_utils.pgrunbook.core import printable
        from ansible.module_utils.pgrunbook.core.errors import RunbookError
        from ansible.module_utils.pgrunbook.report import build, facts, files, value
    except ImportError as error:
        return {
            "failed": True,
            "msg": f"The report cannot be made: {error}. Next step: install what requirements.txt "
            "lists for the Python that runs ansible-playbook.",
        }
    report = build.build(facts.read(given), kind)
    result = {
        "changed": False,
        "report": value.as_json(report),
        "paths": {},
        "text": files.verdict_text(report),
    }
    if dry:
        return result
    plots, warnings = drawn(printable.every(report))
    try:
        return {
            **result,
            "paths": files.write(folder, report, plots, TEMPLATES),
            "warnings": warnings,
        }
    except RunbookError as error:
        return {"failed": True, "msg": printable.text(error)}


def listed(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The result, once the folder's list of reports is made anew; with a warning where it cannot
    be written. Of several hosts that is done once, when all have ended."""
    from ansible.module_utils.pgrunbook.report import index

    try:
        index.write(folder, TEMPLATES)
    except OSError as error:
        warning = f"The list of reports cannot be written to {folder}: {error.strerror}."
        return {**result, "warnings": [*result.get("warnings", []), warning]}
    return result


def drawn(report: Any) -> tuple[dict[str, str], list[str]]:
    """The plots, and a warning where they cannot be drawn: that stops no report."""
    try:
        from ansible.module_utils.pgrunbook.report import plots
    except ImportError as error:
        return {}, [
            f"The report has no plots: {error}. Next step: install matplotlib for the Python that "
            "runs ansible-playbook; requirements.txt has it."
        ]
    return plots.draw(report), []
