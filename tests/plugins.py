# SPDX-License-Identifier: GPL-3.0-or-later
"""Plugins, as Ansible loads them: by their path."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.conftest import ROOT


def action_plugin(name: str) -> ModuleType:
    """A plugin of plugins/action, loaded anew."""
    return plugin(f"action/pgrunbook_{name}")


def plugin(path: str) -> ModuleType:
    """A file of plugins, loaded anew."""
    name = path.replace("/", "_")
    found = importlib.util.spec_from_file_location(name, ROOT / f"plugins/{path}.py")
    assert found and found.loader
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded
