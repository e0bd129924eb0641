#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ledger knows."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_run_info
short_description: List the runs and verify the chain of events
description:
  - Lists every run with its state, progress and verdict, and verifies the hash chain of the
    events.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.reads
"""

EXAMPLES = r"""
- name: List the runs
  pgrunbook_run_info:
    login: "{{ runbook_login }}"
"""

RETURN = r"""
runs:
  description: Every run, the newest first.
  returned: success
  type: list
  elements: dict
broken_events:
  description:
    - Ids of events that do not follow from the one before. Somebody has changed the ledger.
  returned: success
  type: list
  elements: int
text:
  description: The same as a person reads it.
  returned: success
  type: str
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

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.module import LOGIN, execute


def main() -> None:
    module = AnsibleModule(argument_spec={"login": LOGIN}, supports_check_mode=True)
    execute(module, lambda conn, parameters, dry: ledger.info(conn), name="info", writes=False)


if __name__ == "__main__":
    main()
