# SPDX-License-Identifier: GPL-3.0-or-later
"""From a stored plan back to the value that what a person reads is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import ledger
from ..core import values
from .plan import InShort, Plan


def in_short(told: Mapping[str, Any], run_id: str, plan_hash: str) -> InShort:
    """A plan with what its short text needs besides, as pgrunbook_plan returned both. Raises
    KeyError, TypeError or ValueError where they are not that, and RunbookError where the phase
    makes no sense."""
    run = ledger.Run(id=run_id, plan_hash=plan_hash, execution="")
    found = values.read(InShort, {**told, "plan": None, "run": None})
    return replace(found, plan=_plan(told["plan"]), run=run)


def _plan(stored: Mapping[str, Any]) -> Plan:
    spec = ledger.todays_spec(stored["spec"])
    return replace(values.read(Plan, {**stored, "spec": None}), spec=spec)
