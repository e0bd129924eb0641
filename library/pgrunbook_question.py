#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a person approve the plan?"""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_question
short_description: Ask a person to approve a plan
description:
  - Asks a person to type the beginning of the hash, or takes the whole hash from O(approval). The
    task fails where the answer is another one.
  - What was typed is compared here and is never a variable.
  - All of it is done by an action plugin, on the controller. It touches neither the target nor a
    database; M(pgrunbook_approval) records the answer.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  hash:
    description: What is approved, SHA-256 in hexadecimal.
    type: str
    required: true
  scope:
    description:
      - What is approved of it, as in M(pgrunbook_approval). V(waves) covers the hosts of a rollout
        that come after the first one.
    type: str
    required: true
    choices: [plan, waves, backfill, rollback, forget]
  summary:
    description:
      - What the person should know when they decide. It is shown in a frame before the question.
    type: str
    default: ""
  title:
    description: What stands in the upper edge of the frame.
    type: str
    default: ""
  alternatives:
    description:
      - The hashes that the plan would have with other strategies, as M(pgrunbook_plan) returned
        them, so that a refusal can say that the strategy is what has changed.
    type: list
    elements: dict
    default: []
  approval:
    description:
      - The hash that is approved without a question, all 64 digits, as they are and not as an
        expression. Left out, a person is asked; but nobody where the variable
        C(runbook_unattended) is true, or one is set that AWX, AAP or Semaphore sets for its jobs.
    type: str
"""

EXAMPLES = r"""
- name: Ask for approval of the plan
  pgrunbook_question:
    hash: "{{ plan_result.plan_hash }}"
    scope: plan
    summary: "{{ plan_result.text }}"
  register: question_result
"""

RETURN = r"""
answer:
  description:
    - What M(pgrunbook_approval) takes as O(ignore:answer). It holds for this execution of the
      playbook only.
  returned: success
  type: dict
"""
