# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the models to where the module pgrunbook_drift runs, if that is another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, imported, main_of

imported(
    "alembic.autogenerate",
    "alembic.migration",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.orm",
)


class ActionModule(RunbookAction):
    """A file of models is on the controller, beside the playbook; a package is on the target."""

    main = main_of(__file__)
    mistake = "where the models are sent. Nothing was changed in the database."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        return self._call(self._with_models(dict(self._task.args)), task_vars)
