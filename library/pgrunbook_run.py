#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run ends in the ledger."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_run
short_description: Record how a run ended
description:
  - Sets the state that a run ends in. A run that the ledger does not have has changed
    nothing, and is left alone.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.run
  - pgrunbook.writes
options:
  state:
    description:
      - The state. V(running) changes nothing. V(reverted) is refused while rows that the run
        filled, or columns that it renamed or converted, still stand.
    type: str
    required: true
    choices: [running, failed, finished, reverted]
  verdict:
    description: V(GO) or V(NO-GO).
    type: str
  detail:
    description: What else the event should say, such as the error.
    type: str
    default: ""
  report_sha256:
    description: The sha256 of the run's report, which the event keeps. Empty where there is none.
    type: str
    default: ""
  metrics_file:
    description:
      - Where to write the run as Prometheus metrics, for the textfile collector of node_exporter.
        Empty writes none; neither does check mode.
    type: path
    default: ""
  metrics_host:
    description: The label C(host) of the metrics, such as the inventory's name of the host.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Record the verdict
  pgrunbook_run:
    login: "{{ runbook_login }}"
    run: "{{ plan_result.run }}"
    state: finished
    verdict: GO
"""

RETURN = r"""
approvals:
  description: Who approved what, from where, how and when, the first one first.
  returned: success
  type: list
  elements: dict
history:
  description:
    - What the report tells of the run, under C(events), C(slices), C(batches), C(steps),
      C(before) and C(chain). Empty where the ledger does not have the run.
  returned: success
  type: dict
standing:
  description:
    - The changes of the schema that the run made and that still stand, the latest first, each with
      RV(ignore:kind), RV(ignore:old) and RV(ignore:new).
  returned: success
  type: list
  elements: dict
missing:
  description: The indexes that the run dropped and that are not there now.
  returned: success
  type: list
  elements: str
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
from ansible.module_utils.pgrunbook.backfill import rollback_checks
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.module import (
    LOGIN,
    METRICS_FILE,
    METRICS_HOST,
    RUN,
    Given,
    execute,
    with_metrics,
)


def record(conn: Any, given: Given) -> object:
    run = given.run
    if not ledger.has_run(conn, run.id):
        return {"changed": False, "approvals": [], "history": {}, "standing": [], "missing": []}
    state, verdict = given.options["state"], given.options["verdict"]
    if not given.dry:
        ledger.require_owner(conn, run)
    row = ledger.get_run(conn, run.id)
    ends = state != "running" and (row.state, row.verdict) != (state, verdict)
    if ends and not given.dry:
        if state == "reverted":
            rollback_checks.require_taken_back(conn, run.id)
        report = given.options["report_sha256"]
        told = {"report_sha256": report} if report else {}
        ledger.finish(conn, run, state, verdict, detail=given.options["detail"], **told)
    result = {
        "changed": ends,
        "approvals": plain(ledger.list_approvals(conn, run.id)),
        "history": plain(ledger.read_history(conn, run.id)) or {},
        "standing": plain(ledger.standing_changes(conn, run.id)),
        "missing": ledger.missing_of(conn, run.id),
    }
    path = "" if given.dry else given.options["metrics_file"]
    runs = ledger.list_runs(conn) if path else []
    return with_metrics(result, path, given.options["metrics_host"], runs)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "run": RUN,
            "state": {
                "type": "str",
                "required": True,
                "choices": ["running", "failed", "finished", "reverted"],
            },
            "verdict": {"type": "str"},
            "detail": {"type": "str", "default": ""},
            "report_sha256": {"type": "str", "default": ""},
            "metrics_file": METRICS_FILE,
            "metrics_host": METRICS_HOST,
        },
        supports_check_mode=True,
    )
    execute(module, record, name="run", writes=True)


if __name__ == "__main__":
    main()
