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
  signing:
    description:
      - What is signed of the plans, as M(pgrunbook_rollout) returned it. With V(plan) as O(scope),
        the question is refused unless there are as many signatures as the plans want.
    type: dict
    default: {}
  signatures:
    description:
      - The files of signed approvals, a path, or several as a list or as a list in JSON. Each is
        verified before anything is asked.
    type: raw
  allowed_signers:
    description: Path of the list of allowed signers, as C(man ssh-keygen) describes it.
    type: str
    default: ""
  revoked_signers:
    description: Path of a list of revoked keys, as C(ssh-keygen -Y verify -r) takes it.
    type: str
    default: ""
  operator:
    description:
      - Who runs the playbook. Their signature does not count, nor does that of the account that
        runs it, unless O(signing) says that it may.
    type: str
    default: ""
  first_answer:
    description: With V(waves) as O(scope), the answer to the first question, whose signatures cover
      these hosts too.
    type: dict
    default: {}
  verify_only:
    description: Whether to verify the signatures and ask nothing, as a dry run does.
    type: bool
    default: false
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
signed:
  description: Who has signed, a line each.
  returned: if O(verify_only)
  type: list
  elements: str
answer:
  description:
    - What M(pgrunbook_approval) takes as O(ignore:answer). It holds for this execution of the
      playbook only.
  returned: unless O(verify_only)
  type: dict
"""
