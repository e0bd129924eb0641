# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module pgrunbook_run_info, and verify here, on the controller, the signatures that the
ledger has: the list of allowed signers is here, and so is ssh-keygen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, imported, main_of, plain_vars
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.report import status
from ansible.module_utils.pgrunbook.signing.reread import Kept, Verified, verify_again
from ansible.module_utils.pgrunbook.signing.verify import Trust

imported("ansible.module_utils.pgrunbook.report.metrics")


class ActionModule(RunbookAction):
    """What a ledger's row says is no proof; a signature is."""

    main = main_of(__file__)
    mistake = "where the ledger is read. Nothing was changed."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = dict(self._task.args)
        told = self._call(arguments, task_vars)
        if told.get("failed"):
            return told
        trust = Trust(
            str(arguments.get("allowed_signers") or ""), str(arguments.get("revoked_signers") or "")
        )
        return verified(plain_vars(told), trust)


def verified(told: dict[str, Any], trust: Trust) -> dict[str, Any]:
    """What the module returned, with what became of the signatures."""
    try:
        found = verify_again([read(Kept, each) for each in told.get("signed", [])], trust)
    except RunbookError as error:
        found = Verified(not_signed=[str(error)])
    return status.with_signatures(told, found)
