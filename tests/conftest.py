# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the program and the modules importable, as Ansible does when it runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent

ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
sys.path.append(str(ROOT / "library"))
