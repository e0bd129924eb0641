# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase as a ledger holds it: an older version of this program may have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core import spec
from ..core.spec import Spec

RENAMED: Mapping[str, str] = {}
"""For each option that older versions called otherwise, the name that it bears now."""


def todays_spec(stored: Mapping[str, Any]) -> Spec:
    """The phase of a stored plan. Raises RunbookError where it has an option that this program does
    not know."""
    return spec.parse_stored({RENAMED.get(name, name): value for name, value in stored.items()})
