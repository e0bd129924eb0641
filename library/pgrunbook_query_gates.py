#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The speed-up gate."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_query_gates
short_description: Compare queries with the ones that they replace
description:
  - Runs each pair of queries in turn, compares their results, and judges the speed-up by one
    stated rule.
  - In check mode the server only plans the queries, so a wrong one is found before anything
    is changed.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.of_run
  - pgrunbook.reads
"""

EXAMPLES = r"""
- name: Compare the queries
  pgrunbook_query_gates:
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
pairs:
  description: Each pair's times in milliseconds, buffers, plans and ratios.
  returned: success
  type: list
  elements: dict
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

from ansible.module_utils.pgrunbook.gates.query_gates import compare
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, execute


def main() -> None:
    module = AnsibleModule(
        argument_spec={"login": LOGIN, "spec": SPEC, "run": {**RUN, "required": False}},
        supports_check_mode=True,
    )
    execute(
        module,
        lambda conn, given: compare(conn, given.spec, measure=not module.check_mode),
        name="query_gates",
        writes=False,
    )


if __name__ == "__main__":
    main()
