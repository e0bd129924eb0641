#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trial of the index that would serve a query."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_index_trial
short_description: Try the indexes that would serve queries which miss their speed-up
description:
  - For each query that misses its speed-up, builds the index that would serve it with
    C(CREATE INDEX CONCURRENTLY), measures the query again, and drops the index, or keeps it where
    O(spec.index_advice=keep) and the query then meets its speed-up.
  - Whatever fails meanwhile, the index is dropped. What a crash leaves behind is dropped with
    O(state=absent).
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.run
  - pgrunbook.writes
options:
  pairs:
    description: What M(pgrunbook_query_gates) returned as RV(ignore:pairs).
    type: list
    elements: dict
    default: []
  state:
    description:
      - V(present) tries. V(absent) drops what broken trials, of any run, left on the table.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Drop what broken trials left behind
  pgrunbook_index_trial:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    state: absent

- name: Try the indexes that would serve the queries
  pgrunbook_index_trial:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    pairs: "{{ validation_queries.pairs }}"
"""

RETURN = r"""
checks:
  description: The gates of the queries, as M(pgrunbook_query_gates) returns them, after the trials.
  returned: success
  type: list
  elements: dict
pairs:
  description:
    - The pairs, as M(pgrunbook_query_gates) returns them. The C(proposal) of one whose index was
      tried has the key C(tried); where the index was kept, the pair is the one measured with it.
  returned: success
  type: list
  elements: dict
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

from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.gates import QueryPair, index_trial
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, Given, alone, execute


def work(conn: Any, given: Given) -> object:
    spec, run = given.spec, given.run
    if given.options["state"] == "absent":
        return alone(
            conn, given, lambda: index_trial.drop_left_behind(conn, spec, run, dry=given.dry)
        )
    pairs = [read(QueryPair, pair) for pair in given.options["pairs"]]
    return alone(conn, given, lambda: index_trial.apply(conn, spec, run, pairs, dry=given.dry))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": RUN,
            "pairs": {"type": "list", "elements": "dict", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    execute(module, work, name="index_trial", writes=True)


if __name__ == "__main__":
    main()
