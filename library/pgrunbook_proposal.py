#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase file for a table that nobody has written one for."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_proposal
short_description: Propose a phase, and write its file
description:
  - Looks at two tables in the catalog, in the planner's statistics, and compares the first with the
    application's models where there are any. It proposes key, source key, columns and indexes of a
    phase that fills the one from the other.
  - What is concluded from names or statistics is marked as guessed, what cannot be known is a place
    to fill in, marked TO DO, without which a dry run refuses.
  - It reads no row of either table, and writes nothing to the database. The two files are written
    by an action plugin, on the controller. A file that is there is never overwritten.
extends_documentation_fragment:
  - pgrunbook.login
options:
  table:
    description:
      - The table to be filled, as PostgreSQL stores its name or as SQL quotes it, after its schema
        and a dot where that is not V(public).
    type: str
    required: true
  source:
    description: The table or view that the values come from, in the same way.
    type: str
    required: true
  models:
    description:
      - V(path/to/models.py:Base), a file on the controller, or V(package.module:Base), installed
        where the module runs. Empty compares with none.
    type: str
    default: ""
  phase:
    description: What the phase, and its two files, are called. Empty calls it like the table.
    type: str
    default: ""
  folder:
    description:
      - The folder on the controller that gets the playbook, and its folder C(vars) the phase file.
        Empty writes neither.
    type: str
    default: ""
attributes:
  check_mode:
    description: Writes no file, and returns the same.
    support: full
  diff_mode:
    description: The files are new each time.
    support: none
"""

EXAMPLES = r"""
- name: Propose a phase
  pgrunbook_proposal:
    login: "{{ runbook_login }}"
    table: orders
    source: customers
    models: shop/models.py:Base
    folder: playbooks
"""

RETURN = r"""
proposal:
  description:
    - Key, source key, columns and indexes, each with notes. A note has RV(ignore:kind), which is
      V(known), V(guessed), V(todo) (a person has to fill it in) or V(unknown) (nothing depends on
      it), and RV(ignore:said), a sentence.
  returned: success
  type: dict
text:
  description: The proposal as a person reads it.
  returned: success
  type: str
phase_file:
  description: The content of the phase file.
  returned: success
  type: str
playbook:
  description: The content of the playbook.
  returned: success
  type: str
paths:
  description:
    - Where both files are, or would be, as RV(ignore:phase_file) and RV(ignore:playbook).
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

from ansible.module_utils.pgrunbook.module import LOGIN, Given, execute
from ansible.module_utils.pgrunbook.proposal import make
from ansible.module_utils.pgrunbook.proposal import text as told


def look(conn: Any, given: Given) -> object:
    found = make.propose(conn, *(given.options[key] for key in ("table", "source", "models")))
    return {"changed": False, "proposal": found, "text": told.text(found)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "table": {"type": "str", "required": True},
            "source": {"type": "str", "required": True},
            "models": {"type": "str", "default": ""},
            "phase": {"type": "str", "default": ""},
            "folder": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    execute(module, look, name="proposal", writes=False)


if __name__ == "__main__":
    main()
