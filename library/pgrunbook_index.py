#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes without blocked writers."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_index
short_description: Rename or build indexes, or take that back
description:
  - Renames indexes of the wanted definition, drops those that a failed build left invalid,
    and builds missing ones with C(CREATE INDEX CONCURRENTLY).
  - Fails where an index of the wanted name has another definition.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.spec
  - pgrunbook.run
  - pgrunbook.writes
options:
  actions:
    description: Which kinds of action to do now. A reverted state takes all of them back.
    type: list
    elements: str
    choices: [rename, drop_invalid, build]
    default: [rename, drop_invalid, build]

  state:
    description:
      - V(present) makes it so. V(reverted) takes back just what this run did.
    type: str
    choices: [present, reverted]
    default: present
"""

EXAMPLES = r"""
- name: Rename the indexes
  pgrunbook_index:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    actions: [rename]

- name: Build the missing indexes
  pgrunbook_index:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    actions: [drop_invalid, build]
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

from ansible.module_utils.pgrunbook import indexes, ledger
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, alone, execute


def index(conn: Any, parameters: dict[str, Any], dry: bool) -> dict[str, Any]:
    spec, run = parameters["spec"], ledger.Run(**parameters["run"])
    if parameters["state"] == "reverted":
        return alone(conn, spec, dry, lambda: indexes.revert(conn, spec, run, dry=dry))
    kinds = set(parameters["actions"])
    return alone(conn, spec, dry, lambda: indexes.apply(conn, spec, kinds, run, dry=dry))


def main() -> None:
    kinds = ["rename", "drop_invalid", "build"]
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": RUN,
            "actions": {"type": "list", "elements": "str", "choices": kinds, "default": kinds},
            "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
        },
        supports_check_mode=True,
    )
    execute(module, index, name="index", writes=True)


if __name__ == "__main__":
    main()
