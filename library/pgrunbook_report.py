#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run, or of a rollback."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_report
short_description: Write the report of a run
description:
  - Writes C(report.html), C(report.md), C(report.json) and C(junit.xml) from the results of the
    steps, and tells the verdict.
  - It touches no database. The report is evidence, not managed state, so the module never
    reports a change. In check mode it writes nothing.
options:
  folder:
    description: The folder of all reports, where the module runs.
    type: path
    required: true
  facts:
    description:
      - The results of the steps that ran, under the names C(preflight), C(plan),
        C(canary), C(backfill), C(schema),
        C(validation) and C(queries), and C(run), C(title), C(approvals), C(started_at),
        C(finished_at) and C(error).
      - Besides them C(history), as M(pgrunbook_run) returns it, C(login), how psql reaches the
        database, without a password, C(command), with C(playbook) and C(inventory) as they are
        typed, and C(drift), as M(pgrunbook_schema) returns C(differences) before the run.
      - With O(kind=rollback), C(plan) and C(backfill) are the rollback's, and C(column) is what
        M(pgrunbook_column) returned last.
    type: dict
    required: true
  kind:
    description:
      - What is reported. With V(plan) it is what was found and planned before a run, in a dry run
        or by a run that was refused.
    type: str
    choices: [plan, run, rollback]
    default: run
attributes:
  check_mode:
    description: Writes nothing, and returns the same.
    support: full
  diff_mode:
    description: The report is new each time.
    support: none
author:
  - The pgrunbook authors (@pgrunbook)
"""

EXAMPLES = r"""
- name: Write the report
  pgrunbook_report:
    folder: reports
    facts:
      run: "{{ plan_result.run }}"
      title: "{{ phase_title }}"
      preflight: "{{ preflight_result }}"
      plan: "{{ plan_result }}"
      approvals: []
      started_at: "2026-01-31T04:00:00Z"
      finished_at: "2026-01-31T04:05:00Z"
      error: ""
"""

RETURN = r"""
report:
  description: The report, in the format that docs/report.md describes.
  returned: success
  type: dict
paths:
  description: The files, under C(html), C(markdown), C(junit) and C(json). Empty in check mode.
  returned: success
  type: dict
text:
  description: The verdict as a person reads it.
  returned: success
  type: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.module import failures, leave
from ansible.module_utils.pgrunbook.report import report


def draw(told: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The plots, and a warning where they cannot be drawn: that stops no report."""
    try:
        from ansible.module_utils.pgrunbook.report import plots
    except ImportError as error:
        return {}, [
            f"The report has no plots: {error}. Next step: install matplotlib for the Python that "
            "runs ansible-playbook; requirements.txt has it."
        ]
    return plots.draw(printable.every(told)), []


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "facts": {"type": "dict", "required": True},
            "kind": {"type": "str", "choices": ["plan", "run", "rollback"], "default": "run"},
        },
        supports_check_mode=True,
    )
    kinds = {
        "plan": report.build_plan,
        "run": report.build,
        "rollback": report.build_rollback,
    }
    with failures(module, writes=False):
        built = kinds[module.params["kind"]](module.params["facts"])
        result = {"changed": False, "report": built, "paths": {}, "text": report.summary(built)}
        if not module.check_mode:
            drawn, result["warnings"] = draw(built)
            result["paths"] = report.write(Path(module.params["folder"]), built, drawn)
        leave(module, result)


if __name__ == "__main__":
    main()
