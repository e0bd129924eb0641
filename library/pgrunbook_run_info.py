#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ledger knows."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_run_info
short_description: List the runs and verify what the ledger and the reports say
description:
  - Lists every run with its state, progress and verdict, and verifies the hash chain of the
    events, the approvals, their signatures and the reports.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.reads
options:
  metrics_file:
    description:
      - Where to write the runs as Prometheus metrics, for the textfile collector of node_exporter.
        Empty writes none; neither does check mode.
    type: path
    default: ""
  metrics_host:
    description: The label C(host) of the metrics, such as the inventory's name of the host.
    type: str
    default: ""
  reports:
    description: The reports, as M(pgrunbook_report_info) returns them. Those on other databases are
      passed over.
    type: list
    elements: dict
    default: []
  allowed_signers:
    description:
      - Path of the list of allowed signers on the controller, which verifies the signatures of the
        plans that were approved as of then.
    type: str
    default: ""
  revoked_signers:
    description: Path of a list of revoked keys on the controller.
    type: str
    default: ""
  command:
    description: How a command in RV(text) begins, with the inventory that it is for.
    type: str
    default: ansible-playbook
"""

EXAMPLES = r"""
- name: List the runs
  pgrunbook_run_info:
    login: "{{ runbook_login }}"
"""

RETURN = r"""
version:
  description: The version of pgrunbook.
  returned: success
  type: str
runs:
  description: Every run, the newest first.
  returned: success
  type: list
  elements: dict
moments:
  description:
    - How each run stands that is not over, by its id. RV(ignore:age) and RV(ignore:idle) are the
      seconds since it was begun and since it was seen, RV(ignore:decided) is whether all rows after
      the canary's were approved, RV(ignore:missing) has the indexes that it dropped and that are
      not there, and RV(ignore:error) is why it last stopped. RV(ignore:blocked_by) has the process
      ids of the sessions for whose locks it waits, RV(ignore:blocks) those that wait for its own,
      RV(ignore:renamed) the columns that it has renamed, and RV(ignore:limits) the thresholds of
      its phase.
  returned: success
  type: dict
altered:
  description:
    - What somebody has changed since it was written, a sentence each. An event, an approval, a plan
      that was approved, a journal, or a report.
  returned: success
  type: list
  elements: str
signed:
  description:
    - The approvals whose phases want signatures, or that have some, for the controller, which
      verifies them. What comes of that is in RV(altered), RV(notes) and RV(text).
  returned: success
  type: list
  elements: dict
notes:
  description: Which journals are gone, and what of one cannot be known, a sentence each.
  returned: success
  type: list
  elements: str
text:
  description: The same as a person reads it.
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
from ansible.module_utils.pgrunbook.ledger import evidence
from ansible.module_utils.pgrunbook.module import (
    LOGIN,
    METRICS_FILE,
    METRICS_HOST,
    Given,
    execute,
    with_metrics,
)
from ansible.module_utils.pgrunbook.report import status


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "metrics_file": METRICS_FILE,
            "metrics_host": METRICS_HOST,
            "reports": {"type": "list", "elements": "dict", "default": []},
            "command": {"type": "str", "default": status.PLAYBOOK},
            "allowed_signers": {"type": "str", "default": ""},
            "revoked_signers": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )

    def info(conn: Any, given: Given) -> object:
        runs = ledger.list_runs(conn)
        found = evidence.compare(conn, given.options["reports"])
        moments = ledger.moments_of(conn, runs)
        result = status.info(runs, moments, found, given.options["command"])
        result["signed"] = ledger.signed_plans(conn)
        path = "" if module.check_mode else given.options["metrics_file"]
        return with_metrics(result, path, given.options["metrics_host"], runs)

    execute(module, info, name="info", writes=False)


if __name__ == "__main__":
    main()
