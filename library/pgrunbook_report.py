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
  - All of it is done by an action plugin, on the controller. It touches neither the target nor a
    database. The report is evidence, not managed state, so a task never reports a change.
  - The results are those that the steps have registered for the host, as C(runbook_plan) and
    C(runbook_validation); a step whose variable is not set did not run. C(RESULTS) in
    C(plugins/action/pgrunbook_report.py) lists the variables.
options:
  folder:
    description: The folder of all reports, on the controller.
    type: path
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
    description: Writes nothing, and returns the same without RV(paths).
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
    kind: run
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
