#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_report
short_description: Write the report of a run
description:
  - Writes C(report.json) and C(report.md) from the results of the steps, and tells the verdict.
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
    type: dict
    required: true
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
  description: The files, under C(json) and C(markdown). Empty in check mode.
  returned: success
  type: dict
text:
  description: The verdict as a person reads it.
  returned: success
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook import report


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "facts": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    built = report.build(module.params["facts"])
    paths = {} if module.check_mode else report.write(Path(module.params["folder"]), built)
    module.exit_json(changed=False, report=built, paths=paths, text=report.summary(built))


if __name__ == "__main__":
    main()
