#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the hosts of a rollout ended."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_rollout_end
short_description: Put together how the hosts of a rollout ended
description:
  - Reads what M(pgrunbook_turn) kept of each host in this execution of the playbook. Of several
    hosts it writes a report, as C(report.html), C(report.md), C(report.json) and C(junit.xml).
  - All of it is done by an action plugin, on the controller. It touches neither the targets nor a
    database.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  rollout:
    description: The rollout, as M(pgrunbook_rollout) returned it.
    type: dict
    required: true
  declined:
    description: Why nobody approved the hosts after the first one. Empty where somebody did.
    type: str
    default: ""
  folder:
    description: The folder of all reports, on the controller.
    type: path
    required: true
  started_at:
    description: When the playbook began, ISO 8601 in UTC.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Put together how the hosts ended
  pgrunbook_rollout_end:
    rollout: "{{ rollout_result }}"
    folder: reports
    started_at: "2026-01-31T04:05:06Z"
  run_once: true
"""

RETURN = r"""
hosts:
  description:
    - How each host ended, with RV(ignore:host), RV(ignore:state), RV(ignore:why), RV(ignore:rows),
      RV(ignore:seconds) and RV(ignore:report).
  returned: success
  type: list
  elements: dict
verdict:
  description: V(GO) where every host is, V(NO-GO), or empty where none got to its end.
  returned: success
  type: str
why:
  description: Why the verdict is not V(GO).
  returned: success
  type: str
paths:
  description: The files of the report, under C(html), C(markdown), C(junit) and C(json). Empty with
    one host, which has its own report.
  returned: success
  type: dict
text:
  description: A line for each host.
  returned: success
  type: str
"""
