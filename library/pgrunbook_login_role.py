#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that a phase logs in as."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_login_role
short_description: Make the role that a phase logs in as, with no more rights than it needs
description:
  - Makes the role where it is missing, with C(LOGIN) and no other attribute, and grants it what it
    lacks for the phase. What it has, by itself or through a role that it is a member of, is not
    granted again, and nothing is taken away.
  - Membership in the owner of the table, and of its partitions, because PostgreSQL lets nobody else
    rename a column or build an index. With it the role may do whatever the owner may with its
    objects. Before PostgreSQL 16 it may also C(SET ROLE) to the owner, and so use its attributes.
  - C(SELECT) on the source table, because the values come from it.
  - C(USAGE) on the schemas of both tables and of the partitions, because nothing in them can be
    named without it.
  - C(CREATE) on the table's schema and those of its partitions, if the phase has indexes and the
    owner may not create there, because PostgreSQL wants it for building and renaming an index.
  - C(CREATE) on the database, for the ledger, schema C(pgrunbook), unless that is there.
  - Membership in C(pg_read_all_stats), because the replay lag of standbys, other roles' sessions
    and the start of their transactions are hidden without it.
  - All of it is granted in one transaction.
  - Refuses a role that is a superuser or a member of one, or that has C(CREATEDB), C(CREATEROLE),
    C(REPLICATION) or C(BYPASSRLS). Refuses a table whose owner is a superuser or a member of one.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.writes
options:
  login:
    description:
      - How to reach the database as an administrator, who may make roles and grant all that.
  name:
    description: The role, as PostgreSQL stores its name, unquoted.
    type: str
    required: true
  password:
    description:
      - The role's password. Only a SCRAM verifier of it is sent to the server. Without one, or with
        an empty one, the role's password is left as it is, for peer or certificate authentication.
      - It is compared with the present one where O(login) may read C(pg_authid), as a superuser
        may, and where it has ASCII characters only. Otherwise it is set each time, and
        RV(ignore:changed) is true.
    type: str
"""

EXAMPLES = r"""
- name: Make the role that the runbook logs in as
  pgrunbook_login_role:
    login: "{{ login_role_admin }}"
    spec: "{{ phase_spec }}"
    name: runbook
    password: "{{ vault_runbook_password }}"
"""

RETURN = r"""
may:
  description: What the phase needs that the role may do afterwards.
  returned: success
  type: list
  elements: str
diff:
  description: What of that it may do before and after.
  returned: success
  type: dict
queries:
  description:
    - The SQL that was run, or in check mode would be. C(********) stands for the password's
      verifier.
  returned: success
  type: list
  elements: str
text:
  description: The same as a person reads it, a statement in a line.
  returned: success
  type: str
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

from ansible.module_utils.pgrunbook.ddl import login_role
from ansible.module_utils.pgrunbook.module import LOGIN, SPEC, Given, execute


def apply(conn: Any, given: Given) -> object:
    return login_role.apply(
        conn, given.spec, given.options["name"], given.options["password"], dry=given.dry
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    execute(module, apply, name="login_role", writes=True, administers=True)


if __name__ == "__main__":
    main()
