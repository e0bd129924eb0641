# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options that Ansible, or the ledger, hands over to the phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import taken
from .spec import Spec
from .spec_checks import require_sound


def parse(options: Mapping[str, Any]) -> Spec:
    """Turn the options of SPEC_OPTIONS into a Spec. One that is absent has its default. It does not
    depend on the order of a mapping, which the ledger does not keep.

    Raises RunbookError where a value makes no sense, naming the variable.
    """
    spec = taken(Spec, options)
    require_sound(spec)
    return spec
