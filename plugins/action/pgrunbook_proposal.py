# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the module pgrunbook_proposal look at the database, and write what it proposes, here on the
controller."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, imported, main_of, plain_vars
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.proposal import Proposal, files, paths, render

imported(
    "alembic.autogenerate",
    "alembic.migration",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.orm",
)


class ActionModule(RunbookAction):
    """What a person names as a path is one on the controller, from where they are."""

    main = main_of(__file__)
    mistake = "where the phase is proposed. Nothing was changed in the database."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = plain_vars(dict(self._task.args))
        folder, phase = _whole(arguments.get("folder") or ""), arguments.get("phase") or ""
        models = _models(arguments.get("models") or "")
        try:
            if folder and phase:  # before anybody has to wait
                files.require_new(phase, paths.paths(Path(folder), phase, models))
            given = self._with_models({**arguments, "models": models})
            result = self._call(given, task_vars)
            if result.get("failed"):
                return result
            proposal = read(Proposal, plain_vars(result["proposal"]))
            phase = phase or paths.name_of(proposal.table.name)
            to = paths.paths(Path(folder or "."), phase, models)
            return {**result, **self._written(proposal, phase, to, bool(folder))}
        except RunbookError as error:
            return {"failed": True, "msg": printable.text(error)}

    def _written(
        self, proposal: Proposal, phase: str, to: paths.Paths, wanted: bool
    ) -> dict[str, Any]:
        """Both files, which are written if that is wanted, and not in check mode."""
        variables = render.phase_file(proposal, phase, to.models, templated=to.templated)
        playbook = render.playbook(proposal, to.imports, to.phase_file)
        told = {
            "phase_file": variables,
            "playbook": playbook,
            "paths": {"phase_file": str(to.phase), "playbook": str(to.playbook)},
            "changed": wanted,
        }
        if wanted:
            files.require_new(phase, to)
        if wanted and not self._task.check_mode:
            files.write(to, variables, playbook)
        return told


def _whole(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path else ""


def _models(models: str) -> str:
    """The models with the whole path of their file; a package as it is."""
    where, colon, base = models.rpartition(":")
    return f"{_whole(where)}{colon}{base}" if where.endswith(".py") else models
