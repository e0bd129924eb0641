#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes without blocked writers."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_index
short_description: Rename or build indexes, or take that back
description:
  - Renames indexes of the wanted definition, drops those that a failed build left invalid or
    that are to be away during the backfill, and builds missing ones with
    C(CREATE INDEX CONCURRENTLY).
  - On a partitioned table builds an index on each partition, concurrently, and attaches it to one
    on the whole table. What is there of it already is kept.
  - Fails where an index of the wanted name has another definition.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.run
  - pgrunbook.writes
options:
  actions:
    description: Which kinds of action to do now. A reverted state takes all of them back.
    type: list
    elements: str
    choices: [rename, drop_invalid, defer, build]
    default: [rename, drop_invalid, defer, build]
  deferred:
    description:
      - Names of the indexes that V(defer) drops for the backfill, and V(build) builds again. Take
        them from the RV(ignore:plan.strategy) that M(pgrunbook_plan) returned.
    type: list
    elements: str
    default: []

  state:
    description:
      - V(present) makes it so. V(reverted) takes back just what this run did.
      - V(cleared) drops, before a rollback gives rows back, the indexes that its plan names.
        V(reverted) builds those again that were there before the run.
    type: str
    choices: [present, cleared, reverted]
    default: present
"""

EXAMPLES = r"""
- name: Rename the indexes
  pgrunbook_index:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    actions: [rename]

- name: Drop those that would slow the backfill down
  pgrunbook_index:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    actions: [drop_invalid, defer]
    deferred: "{{ plan_result.plan.strategy.deferred }}"

- name: Build the missing indexes
  pgrunbook_index:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    actions: [build]
"""

RETURN = r"""
schema:
  description: The table's columns and indexes afterwards.
  returned: success
  type: dict
diff:
  description: The indexes before and after.
  returned: success
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

from ansible.module_utils.pgrunbook.ddl import clear_indexes, index_plan, indexes, undo_indexes
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, Given, alone, execute


def index(conn: Any, given: Given) -> object:
    spec, run = given.spec, given.run

    def work() -> Any:
        if given.options["state"] == "cleared":
            return clear_indexes.clear(conn, spec, run, dry=given.dry)
        if given.options["state"] == "reverted":
            return undo_indexes.revert(conn, spec, run, dry=given.dry)
        kinds, deferred = given.options["actions"], given.options["deferred"]
        return indexes.apply(conn, spec, kinds, run, deferred=deferred, dry=given.dry)

    return alone(conn, given, work)


def main() -> None:
    kinds = list(index_plan.KINDS)
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": RUN,
            "actions": {"type": "list", "elements": "str", "choices": kinds, "default": kinds},
            "deferred": {"type": "list", "elements": "str", "default": []},
            "state": {
                "type": "str",
                "choices": ["present", "cleared", "reverted"],
                "default": "present",
            },
        },
        supports_check_mode=True,
    )
    execute(module, index, name="index", writes=True)


if __name__ == "__main__":
    main()
