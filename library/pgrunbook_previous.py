#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the latest run measured."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_previous
short_description: Find what the latest run measured
description:
  - Looks through the reports for the newest one of a finished run of the phase on this database,
    and returns the speed-up of its queries. It touches no database.
options:
  folder:
    description: The folder of all reports, where the module runs.
    type: path
    required: true
  phase:
    description: Short name of the phase.
    type: str
    required: true
  server:
    description: The database, as RV(pgrunbook_data_gates#module:server) names it.
    type: dict
    required: true
attributes:
  check_mode:
    description: The module only reads, in either mode.
    support: full
  diff_mode:
    description: The module changes nothing.
    support: none
author:
  - The pgrunbook authors (@pgrunbook)
"""

EXAMPLES = r"""
- name: Find what the latest run measured
  pgrunbook_previous:
    folder: reports
    phase: phase3
    server: "{{ validation_result.server }}"
  delegate_to: localhost
"""

RETURN = r"""
previous:
  description:
    - RV(ignore:run_id), RV(ignore:finished_at) and RV(ignore:queries), with RV(ignore:time_ratio),
      RV(ignore:buffer_ratio) and RV(ignore:read_from_outside) of each by its name. Empty where
      there is no such report.
  returned: success
  type: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.module import failures, leave, passed_over
from ansible.module_utils.pgrunbook.report import store


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "phase": {"type": "str", "required": True},
            "server": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    with failures(module, writes=False):
        found, unreadable = store.latest_measured(
            Path(module.params["folder"]), module.params["phase"], module.params["server"]
        )
        leave(
            module,
            {
                "changed": False,
                "previous": plain(found) if found else {},
                "warnings": passed_over(unreadable),
            },
        )


if __name__ == "__main__":
    main()
