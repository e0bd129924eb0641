#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steer a backfill that is at work."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_control
short_description: Pause, resume, abort or slow down a backfill that is at work
description:
  - Tells a run, through the ledger, what to do. It obeys after the batch that is under way, which
    takes about a tenth of a second. That also holds for a rollback.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.writes
options:
  action:
    description:
      - V(pause) keeps the run from beginning another batch until V(resume). V(abort) ends it as a
        failure that can be resumed or rolled back. V(throttle) sets O(rows_per_second).
    type: str
    required: true
    choices: [pause, resume, abort, throttle]
  rows_per_second:
    description: The rate to keep below, over all workers. V(0) lifts it.
    type: int
    default: 0
  run_id:
    description: The run. Empty means the one that is at work.
    type: str
    default: ""
  by:
    description: Who says so, for the event in the ledger and for the run's own line of progress.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Pause the backfill
  pgrunbook_control:
    login: "{{ runbook_login }}"
    action: pause
    by: "{{ runbook_operator }}"

- name: Let it fill at most 2,000 rows a second
  pgrunbook_control:
    login: "{{ runbook_login }}"
    action: throttle
    rows_per_second: 2000
    by: "{{ runbook_operator }}"
"""

RETURN = r"""
text:
  description: What the run is told, as a person reads it.
  returned: success
  type: str
diff:
  description: What the run was told before, and is told now.
  returned: success
  type: dict
queries:
  description: Always empty; the table is not changed.
  returned: success
  type: list
  elements: str
# begin: events
events:
  description:
  - The events that the call has appended to the ledger, each with RV(ignore:at),
    RV(ignore:run), RV(ignore:kind), RV(ignore:detail) and RV(ignore:version); none
    in check mode. They are there where the module failed, too.
  returned: always
  type: list
  elements: dict
# end: events
# begin: proof
proof:
  description:
  - What the server says of this session's writes. RV(ignore:read_only) is C(transaction_read_only),
    RV(ignore:xid) is C(pg_current_xact_id_if_assigned()), which is null if nothing
    was written.
  returned: success
  type: dict
  sample:
    read_only: true
    xid: null
# end: proof
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.module import LOGIN, Given, execute
from ansible.module_utils.pgrunbook.report import status


def control(conn: Any, given: Given) -> object:
    run_id = given.options["run_id"] or ledger.running(conn)
    told = ledger.control(
        conn,
        run_id,
        action=given.options["action"],
        rows_per_second=given.options["rows_per_second"],
        by=given.options["by"],
        dry=given.dry,
    )
    return status.told(run_id, told)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "action": {
                "type": "str",
                "required": True,
                "choices": ["pause", "resume", "abort", "throttle"],
            },
            "rows_per_second": {"type": "int", "default": 0},
            "run_id": {"type": "str", "default": ""},
            "by": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    execute(module, control, name="control", writes=True)


if __name__ == "__main__":
    main()
