# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as tests make them: from facts, as JSON; or by the action plugin's task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.report import build as building
from ansible.module_utils.pgrunbook.report import facts as facts_module
from ansible.module_utils.pgrunbook.report import files, junit, pages, plots, value
from ansible.module_utils.pgrunbook.report.value import Report
from tests.plugins import action_plugin

Told = dict[str, Any]


PLUGIN = action_plugin("report")


def report_task(folder: Path, facts: Told, *, check: bool = False, **arguments: Any) -> Told:
    """What a task returns on a host whose steps have found these facts, by their names."""
    found = {PLUGIN.RESULTS[name]: of for name, of in facts.items() if name in PLUGIN.RESULTS}
    loader, given = DataLoader(), Task()
    given.args, given.check_mode = {"folder": str(folder), **arguments}, check
    action = PLUGIN.ActionModule(
        task=given,
        connection=SimpleNamespace(_shell=SimpleNamespace(tmpdir="")),
        play_context=None,
        loader=loader,
        templar=Templar(loader=loader, variables=found),
        shared_loader_obj=None,
    )
    result: Told = action.run(task_vars=found)
    return result


def build(facts: Told, kind: str = "run") -> Told:
    """The report of these facts as report.json has it."""
    return value.as_json(building.build(facts_module.read(facts), kind))


def html(told: Told, drawn: dict[str, str]) -> str:
    return pages.html(read(Report, told), drawn, PLUGIN.TEMPLATES)


def markdown(told: Told) -> str:
    return pages.markdown(read(Report, told), PLUGIN.TEMPLATES)


def junit_xml(told: Told) -> str:
    return junit.junit(read(Report, told))


def draw(told: Told) -> dict[str, str]:
    return plots.draw(read(Report, told))


def verdict_text(told: Told) -> str:
    return files.verdict_text(read(Report, told))


def write(folder: Path, told: Told, drawn: dict[str, str]) -> dict[str, str]:
    return files.write(folder, read(Report, told), drawn, PLUGIN.TEMPLATES)
