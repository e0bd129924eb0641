# SPDX-License-Identifier: GPL-3.0-or-later
"""pgrunbook's modules, called in this process."""

from __future__ import annotations

import importlib
import io
import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent


def call(name: str, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run a module of library/ in this process, as Ansible runs it in one of its own.

    name is without its prefix, such as "plan"; with check it runs in check mode.

    Raises RuntimeError where the module fails.
    """
    import_path()
    from ansible.module_utils.testing import patch_module_args

    arguments["_ansible_check_mode"] = check
    module = importlib.import_module(f"pgrunbook_{name}")
    printed = io.StringIO()
    with patch_module_args(arguments), redirect_stdout(printed), suppress(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(printed.getvalue())
    if result.get("failed"):
        raise RuntimeError(f"pgrunbook_{name}: {result['msg']}")
    return result


def approve(login: Mapping[str, Any], planned: Mapping[str, Any], *scopes: str) -> None:
    """Approve what the module plan returned, for each scope. Raises RuntimeError if refused."""
    for scope in scopes:
        call(
            "approval",
            login=login,
            run=planned["run"],
            plan=planned["plan"],
            scope=scope,
            baseline=planned.get("baseline", {}),
            approved_by="benchmark",
            approved_from="benchmark",
            method="unattended",
        )


def import_path() -> None:
    """Where Ansible would find the modules and the program, as ansible.cfg says."""
    program, modules = str(ROOT / "module_utils"), str(ROOT / "library")
    if program not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(program)
    if modules not in sys.path:
        sys.path.append(modules)
