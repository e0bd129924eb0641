#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates on the data."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_data_gates
short_description: Measure the data gates
description:
  - Measures coverage, accuracy on a random sample, the exact equality of every row with its
    source, and the indexes.
  - With O(canary_of), compares just the rows that a run has changed so far, and estimates from
    them how long the others take, and whether that is within the window.
  - With O(unfilled_max), for a day after the run, measures the database's health as well, and rows
    that the source could fill fail their gate.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.of_run
  - pgrunbook.reads
options:
  canary_of:
    description: The id of the run whose changed rows are compared.
    type: str
  unfilled_max:
    description: How many rows may be left that the source could fill.
    type: int
  grace_seconds:
    description:
      - With O(unfilled_max), a row counts only if it could be filled this many seconds before, too.
        There is no second look where the first one finds few enough, or more than 10,000.
    type: float
    default: 30.0
"""

EXAMPLES = r"""
- name: Validate
  pgrunbook_data_gates:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"

- name: Validate the canary
  pgrunbook_data_gates:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    canary_of: phase3-20260131T040506Z-1f2e

- name: Validate on a day after the run
  pgrunbook_data_gates:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    unfilled_max: 0
"""

RETURN = r"""
# begin: checks
checks:
  description:
  - The gates, each with RV(ignore:id), RV(ignore:title), RV(ignore:test), RV(ignore:target),
    RV(ignore:measured), RV(ignore:status) (V(pass), V(fail) or V(warn)) and RV(ignore:evidence).
  returned: success
  type: list
  elements: dict
# end: checks
schema:
  description: The table's columns and indexes.
  returned: unless O(canary_of) is given
  type: dict
counts:
  description: The rows of the table, by what a backfill would do with them.
  returned: unless O(canary_of) is given
  type: dict
server:
  description: Version, database, role and system identifier.
  returned: when O(unfilled_max) is given
  type: dict
run:
  description:
    - The newest run of the phase on the table, with RV(ignore:id), RV(ignore:state) and
      RV(ignore:finished_at). Null where there is none.
  returned: when O(unfilled_max) is given
  type: dict
# begin: queries
queries:
  description:
  - The SQL that was run, or in check mode would be.
  returned: success
  type: list
  elements: str
# end: queries
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

from ansible.module_utils.pgrunbook.gates import canary, data_gates, post_run
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, Given, execute


def measure(conn: Any, given: Given) -> object:
    if given.options["canary_of"]:
        return canary.measure(conn, given.spec, given.options["canary_of"])
    if given.options["unfilled_max"] is not None:
        return post_run.validate(
            conn,
            given.spec,
            unfilled_max=given.options["unfilled_max"],
            grace_seconds=given.options["grace_seconds"],
        )
    return data_gates.validate(conn, given.spec)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": {**RUN, "required": False},
            "canary_of": {"type": "str"},
            "unfilled_max": {"type": "int"},
            "grace_seconds": {"type": "float", "default": 30.0},
        },
        mutually_exclusive=[("canary_of", "unfilled_max")],
        supports_check_mode=True,
    )
    execute(module, measure, name="data_gates", writes=False)


if __name__ == "__main__":
    main()
