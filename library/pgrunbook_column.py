#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Columns get their right names and types."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_column
short_description: Give columns their right names and types, or take that back
description:
  - Renames the phase's columns that still bear their old name, in one catalog change that
    waits for its lock only briefly and tries again.
  - A column that has the type it is to be converted from is put aside under another name, and a
    new one of the right type takes its place. That rewrites nothing; the backfill moves its values.
  - Fails where a column is there under both names or neither, or where a function body with
    the old name would break.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.run
  - pgrunbook.writes
options:
  state:
    description:
      - V(present) makes it so. V(reverted) takes back just what this run did.
    type: str
    choices: [present, reverted]
    default: present
"""

EXAMPLES = r"""
- name: Rename the column
  pgrunbook_column:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
"""

RETURN = r"""
schema:
  description: The table's columns and indexes afterwards.
  returned: success
  type: dict
diff:
  description: The columns before and after.
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

from ansible.module_utils.pgrunbook.ddl import columns, undo_columns
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, Given, alone, execute


def column(conn: Any, given: Given) -> object:
    spec, run = given.spec, given.run
    work = undo_columns.revert if given.options["state"] == "reverted" else columns.apply
    return alone(conn, given, lambda: work(conn, spec, run, dry=given.dry))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": RUN,
            "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
        },
        supports_check_mode=True,
    )
    execute(module, column, name="column", writes=True)


if __name__ == "__main__":
    main()
