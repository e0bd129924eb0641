# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate on the differences between the schema and the application's models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.spec import Spec
from ..core.values import plain
from ..drift import Difference
from . import registry
from .gate import Gate, judge


def schema_gate(spec: Spec, differences: Sequence[Difference]) -> Gate:
    """Fails where a difference breaks the application."""
    breaking = [d.text for d in differences if d.breaks]
    accepted = [d.object for d in differences if d.acknowledged]
    besides = f"none, apart from what is acknowledged: {', '.join(accepted)}"
    return judge(
        spec,
        registry.SCHEMA,
        target="no difference that breaks the application",
        measured="; ".join(breaking) or (besides if accepted else "none"),
        passed=not breaking,
        evidence=plain(differences),
    )


def schema_gate_before(spec: Spec | None, differences: Sequence[Difference]) -> Gate:
    """The same before a run: what the phase mends does not count."""
    breaking = [d.text for d in differences if d.breaks and not d.by_phase]
    mended = sum(d.breaks and d.by_phase for d in differences)
    harmless = f"{mended} that the phase mends" if mended else "none"
    return judge(
        spec,
        replace(registry.SCHEMA, title=f"{registry.SCHEMA.title}, once the phase is done"),
        target="no difference that breaks the application, apart from those that the phase mends",
        measured="; ".join(breaking) or harmless,
        passed=not breaking,
    )
