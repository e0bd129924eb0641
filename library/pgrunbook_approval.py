#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""An approval goes into the ledger."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_approval
short_description: Record an approval in the ledger
description:
  - Records who approved which plan, when and from where. Without it the writing modules
    refuse to work.
  - The first approval makes the ledger, schema C(pgrunbook), and claims the run for this
    execution. Where there is one of an earlier version, the first approval of a plan or of a
    rollback migrates it.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.run
  - pgrunbook.writes
options:
  plan:
    description: The plan, as M(pgrunbook_plan) returned it. Its hash must be that of O(run).
    type: dict
    required: true
  scope:
    description: What is approved. V(plan) covers schema and canary, V(backfill) all other rows.
    type: str
    required: true
    choices: [plan, backfill, rollback]
  baseline:
    description:
      - What the run starts from, as M(pgrunbook_plan) returned it. It is kept with the first
        approval of a run, and reports of the run count from it.
    type: dict
    default: {}
  approved_by:
    description: Who approved.
    type: str
    required: true
  approved_from:
    description: From which host.
    type: str
    required: true
  method:
    description: Whether it was typed at the prompt or passed as a variable.
    type: str
    required: true
    choices: [prompt, unattended]
"""

EXAMPLES = r"""
- name: Record the approval
  pgrunbook_approval:
    login: "{{ runbook_login }}"
    run: "{{ plan_result.run }}"
    plan: "{{ plan_result.plan }}"
    scope: plan
    approved_by: alice
    approved_from: bastion.example.org
    method: prompt
"""

RETURN = r"""
approved_by:
  description: Who approved.
  returned: success
  type: str
queries:
  description: The SQL that was run, or in check mode would be.
  returned: success
  type: list
  elements: str
proof:
  description:
    - What the server says of this session's writes. RV(ignore:read_only) is
      C(transaction_read_only),
      RV(ignore:xid) is C(pg_current_xact_id_if_assigned()), which is null if nothing was written.
  returned: success
  type: dict
  sample: {"read_only": true, "xid": null}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, execute


def approve(conn: Any, parameters: dict[str, Any], dry: bool) -> dict[str, Any]:
    run = ledger.Run(**parameters["run"])
    known = ledger.is_approved(conn, run, parameters["scope"], parameters["approved_by"])
    if not known and not dry:
        ledger.approve(
            conn,
            run,
            plan=parameters["plan"],
            scope=parameters["scope"],
            baseline=parameters["baseline"],
            approved_by=parameters["approved_by"],
            approved_from=parameters["approved_from"],
            method=parameters["method"],
        )
    return {"changed": not known, "approved_by": parameters["approved_by"]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "run": RUN,
            "plan": {"type": "dict", "required": True},
            "scope": {"type": "str", "required": True, "choices": ["plan", "backfill", "rollback"]},
            "baseline": {"type": "dict", "default": {}},
            "approved_by": {"type": "str", "required": True},
            "approved_from": {"type": "str", "required": True},
            "method": {"type": "str", "required": True, "choices": ["prompt", "unattended"]},
        },
        supports_check_mode=True,
    )
    execute(module, approve, name="approval", writes=True)


if __name__ == "__main__":
    main()
