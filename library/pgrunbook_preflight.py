#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts and gates before anything else."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_preflight
short_description: Find out whether a run can start
description:
  - Reads the server's health, the privileges of the role, and the counts of both tables.
  - Fails where a run could not succeed, such as on a standby, or where the role does not own
    the table, with all that is in the way. RV(ignore:obstacles) of a failure lists it.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.reads
"""

EXAMPLES = r"""
- name: Find out whether the run can start
  pgrunbook_preflight:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
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
server:
  description: Version, database, role and system identifier.
  returned: success
  type: dict
health:
  description: Counts, sizes in bytes, and the age of the oldest transaction in seconds.
  returned: success
  type: dict
text:
  description: Server, counts and the oldest transaction as a person reads them.
  returned: success
  type: str
schema:
  description: The table's columns and indexes.
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

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook.gates.preflight import examine, require_startable
from ansible.module_utils.pgrunbook.module import LOGIN, SPEC, execute


def main() -> None:
    module = AnsibleModule(argument_spec={"login": LOGIN, "spec": SPEC}, supports_check_mode=True)
    execute(
        module,
        lambda conn, given: examine(
            conn, given.options["login"], given.spec, check=module.check_mode
        ),
        name="preflight",
        writes=False,
        first=require_startable,
    )


if __name__ == "__main__":
    main()
