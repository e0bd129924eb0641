# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module that a link to this file has the name of. Modules with more to do on the
controller have a plugin of their own."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, imported, main_of

imported("ansible.module_utils.pgrunbook.report.metrics")


class ActionModule(RunbookAction):
    """Imported with its module before Ansible starts the process of a task."""

    main = main_of(__file__)
