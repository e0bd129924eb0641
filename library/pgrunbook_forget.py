#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a run that has ended is dropped."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_forget
short_description: Drop the journal of a run that has ended
description:
  - Drops the entries of the run's journal, which a rollback would go by, in short transactions, and
    keeps its batches, approvals and events. Each transaction is recorded as an event, and so is the
    end, with who approved it, rows, bytes and the journal's SHA-256 as it was.
  - Afterwards the run cannot be rolled back. Broken off, it goes on when it is approved again.
  - Refuses where nobody approved that, the journal is not the one that was approved, or the run has
    not ended.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.run
  - pgrunbook.writes
"""

EXAMPLES = r"""
- name: Drop the journal
  pgrunbook_forget:
    login: "{{ runbook_login }}"
    run: "{{ plan_result.run }}"
"""

RETURN = r"""
batches:
  description: How many batches had entries that were dropped, or in check mode would be.
  returned: success
  type: int
rows:
  description: Of how many rows.
  returned: success
  type: int
bytes:
  description: How many bytes these entries took, as they were stored.
  returned: success
  type: int
not_vacuumed:
  description: Why the server did not give the space back to the table; empty where it did.
  returned: success
  type: str
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

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.catalog import trusted_ledger
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.ledger import forget
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, Given, execute


def drop(conn: Any, given: Given) -> object:
    run_id = given.run.id
    trusted_ledger.require_own_ledger(conn, ledger.approved_spec(conn, run_id))
    left = forget.left(conn, run_id)
    queries = forget.statements(conn) if left.batches else []
    done = forget.Dropped(left.batches, left.rows, left.bytes, "")
    if left.batches and not given.dry:
        done = forget.drop(conn, given.run)
    return {**plain(done), "changed": bool(left.batches), "queries": queries}


def main() -> None:
    module = AnsibleModule(
        argument_spec={"login": LOGIN, "run": RUN},
        supports_check_mode=True,
    )
    execute(module, drop, name="forget", writes=True)


if __name__ == "__main__":
    main()
