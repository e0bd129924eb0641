#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict of a post-run validation."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_post_run
short_description: Give the verdict of a post-run validation
description:
  - Takes the gates that M(pgrunbook_data_gates), M(pgrunbook_drift) and
    M(pgrunbook_query_gates) measured, adds whether each query has kept its speed-up and whether all
    sessions only read, tells what to do, and writes the figures as Prometheus metrics.
  - It touches no database. The metrics are evidence, not managed state, so the module never
    reports a change.
extends_documentation_fragment:
  - pgrunbook_spec
options:
  results:
    description: What these modules returned. One without RV(ignore:checks) was skipped.
    type: list
    elements: dict
    required: true
  previous:
    description: What the latest run measured, as M(pgrunbook_previous) returns it.
    type: dict
    required: true
  speedup_fall_max:
    description: How much of its previous speed-up a query may lose, in per cent.
    type: float
    default: 20.0
  command:
    description: How the phase is run, for the messages.
    type: str
    required: true
  metrics_file:
    description:
      - Where to write the figures as Prometheus metrics, for the textfile collector of
        node_exporter. Empty writes none; neither does check mode.
    type: path
    default: ""
  metrics_host:
    description: The label C(host) of the metrics, such as the inventory's name of the host.
    type: str
    default: ""
attributes:
  check_mode:
    description: Writes no metrics, and returns the same.
    support: full
  diff_mode:
    description: The metrics are new each time.
    support: none
author:
  - The pgrunbook authors (@pgrunbook)
"""

EXAMPLES = r"""
- name: Give the verdict
  pgrunbook_post_run:
    spec: "{{ phase_spec }}"
    results: ["{{ validation_result }}", "{{ validation_schema }}", "{{ validation_queries }}"]
    previous: {}
    command: ansible-playbook playbooks/phase3.yml
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
breached:
  description: The ids of the gates that failed.
  returned: success
  type: list
  elements: str
text:
  description:
    - The gates as a person reads them, a line for each, after one for a newest run that was taken
      back.
  returned: success
  type: str
verdict:
  description: C(OK), or C(BREACHED) with the next step for each gate, and the server's word for it
    that the sessions only read.
  returned: success
  type: str
"""


from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook.core.values import plain, read
from ansible.module_utils.pgrunbook.gates import post_run_verdict
from ansible.module_utils.pgrunbook.module import (
    METRICS_FILE,
    METRICS_HOST,
    SPEC,
    failures,
    leave,
    phase_of,
    written,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "spec": SPEC,
            "results": {"type": "list", "elements": "dict", "required": True},
            "previous": {"type": "dict", "required": True},
            "speedup_fall_max": {"type": "float", "default": 20.0},
            "command": {"type": "str", "required": True},
            "metrics_file": METRICS_FILE,
            "metrics_host": METRICS_HOST,
        },
        supports_check_mode=True,
    )
    given = module.params
    with failures(module, writes=False):
        spec = phase_of(given["spec"])
        found = post_run_verdict.conclude(
            spec,
            [read(post_run_verdict.Result, result) for result in given["results"]],
            previous=read(post_run_verdict.Previous, given["previous"]),
            fall_max=given["speedup_fall_max"],
            command=given["command"],
        )
        path = "" if module.check_mode else given["metrics_file"]
        figures = post_run_verdict.figures(spec, found.checks)
        result = written(
            plain(found),
            path,
            "runbook_validation_metrics_file",
            lambda metrics: metrics.write_validation(path, given["metrics_host"], figures),
        )
        leave(module, result)


if __name__ == "__main__":
    main()
