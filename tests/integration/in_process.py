# SPDX-License-Identifier: GPL-3.0-or-later
"""Call a module of library/ in this process."""

from __future__ import annotations

import importlib
import io
import json
from contextlib import redirect_stdout
from typing import Any
from unittest.mock import patch

from ansible.module_utils import _internal
from ansible.module_utils.common import warnings
from ansible.module_utils.testing import patch_module_args


def call_module(name: str, /, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """What a module returns: call_module("pgrunbook_plan", check=True, login=…).

    As in a process of its own, the warnings of an earlier module are not among its own, and nothing
    takes it for a part of ansible-playbook.
    """
    loaded = importlib.import_module(name)
    arguments["_ansible_check_mode"] = check
    printed = io.StringIO()
    with (
        patch.dict(warnings._global_warnings, clear=True),
        patch.object(_internal, "is_controller", False),
        patch_module_args(arguments),
        redirect_stdout(printed),
    ):
        try:
            loaded.main()
        except SystemExit:
            result: dict[str, Any] = json.loads(printed.getvalue())
            return result
    raise AssertionError(f"{name} did not exit")
