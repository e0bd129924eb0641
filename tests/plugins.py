# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugins, as Ansible loads them: by their path."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.conftest import ROOT


def action_plugin(name: str) -> ModuleType:
    """A plugin of plugins/action, loaded anew."""
    path = ROOT / f"plugins/action/pgrunbook_{name}.py"
    found = importlib.util.spec_from_file_location(f"{name}_plugin", path)
    assert found and found.loader
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded
