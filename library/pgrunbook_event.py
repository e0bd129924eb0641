#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event that only the controller knows, and who is told of events."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_event
short_description: Tell of an event that the ledger does not have
description:
  - Writes an event to C(runbook_log), and tells those whom C(runbook_notify) names.
  - Both variables are read by an action plugin, on the controller, and are no options, which
    Ansible would show. It touches neither the target nor a database.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  kind:
    description: What happened. V(none) tells nobody, and only checks C(runbook_notify).
    type: str
    required: true
    choices: [none, plan_made, plan_refused]
  why:
    description: With O(kind=plan_refused), why.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Tell that there is no plan
  pgrunbook_event:
    kind: plan_refused
    why: "{{ runbook_failure }}"
"""

RETURN = r"""
told:
  description: Whether it was an event that is told.
  returned: success
  type: bool
"""
