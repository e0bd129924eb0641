# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the models to where the module pgrunbook_drift runs, if that is another machine."""

from __future__ import annotations

import traceback
from os.path import isfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

TRACED_FROM = 3  # -vvv


def unforeseen(error: Exception) -> dict[str, Any]:
    """A failure in a sentence for the person; where it happened from verbosity 3 on."""
    lines = traceback.format_exception(error)
    traced = Display().verbosity >= TRACED_FROM
    return {
        "failed": True,
        "msg": f"A mistake in pgrunbook: {type(error).__name__} where the models are sent. "
        "Nothing was changed in the database. Next step: run the same again with -vvv, and give "
        "what it shows to whoever maintains pgrunbook.",
        **({"traceback": "".join(lines).splitlines()} if traced else {}),
    }


class ActionModule(ActionBase):
    """A file of models is on the controller, beside the playbook; a package is on the target."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        super().run(tmp, task_vars)
        try:
            return self._compared(task_vars)
        except AnsibleError:
            raise
        except Exception as error:
            return unforeseen(error)

    def _compared(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = dict(self._task.args)
        where, _, attribute = str(arguments.get("models", "")).rpartition(":")
        if isfile(where) and self._connection.transport != "local":
            arguments["models"] = f"{self._send(where)}:{attribute}"
        result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        return result

    def _send(self, path: str) -> str:
        folder = self._make_tmp_path()
        sent: str = self._connection._shell.join_path(folder, Path(path).name)
        self._transfer_file(path, sent)
        self._fixup_perms2([folder, sent])
        return sent
