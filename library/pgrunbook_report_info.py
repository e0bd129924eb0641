#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reports say of themselves."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_report_info
short_description: List the reports and verify their sums
description:
  - Reads every C(report.json) in a folder of reports and verifies its SHA-256. Whether the ledger
    knows them is for M(pgrunbook_run_info) to say. It touches no database.
options:
  folder:
    description: The folder of all reports, where the module runs.
    type: path
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
- name: Read the reports
  pgrunbook_report_info:
    folder: reports
"""

RETURN = r"""
reports:
  description:
    - Of each report RV(ignore:path), RV(ignore:run_id), RV(ignore:sha256), RV(ignore:intact)
      (whether that is the sum of its data), RV(ignore:events) and RV(ignore:head) (of the ledger's
      chain when it was written), RV(ignore:system_identifier) and RV(ignore:database).
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.module import failures, leave, passed_over
from ansible.module_utils.pgrunbook.report import store


def main() -> None:
    module = AnsibleModule(
        argument_spec={"folder": {"type": "path", "required": True}}, supports_check_mode=True
    )
    with failures(module, writes=False):
        found, unreadable = store.reports(Path(module.params["folder"]))
        leave(
            module, {"changed": False, "reports": plain(found), "warnings": passed_over(unreadable)}
        )


if __name__ == "__main__":
    main()
