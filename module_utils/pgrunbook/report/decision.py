# SPDX-License-Identifier: GPL-3.0-or-later
"""What a board decides on: the reason of the verdict and what is recommended, in a sentence each,
and what stands beside them on the first screen."""

from __future__ import annotations

from ..core.spec import Spec
from ..gates.gate import WARN
from .choices import options
from .facts import Facts
from .in_short import counted, failed, missed
from .prerequisites import prerequisites
from .risk_levels import risk_levels
from .state import state
from .value import Decision, Report
from .words import PASSED


def decision(told: Report, spec: Spec | None, facts: Facts) -> Decision:
    """What is decided, of a report that has everything else."""
    return Decision(
        reason=_reason(told),
        recommendation=_recommendation(told),
        risk_levels=tuple(risk_levels(told, spec)),
        state=tuple(state(told, spec, facts)),
        options=options(told, spec, facts),
        prerequisites=tuple(prerequisites(told)),
    )


def _reason(told: Report) -> str:
    """Why the verdict is what it is."""
    if told.verdict == "GO":
        warned = sum(gate.status == WARN for gate in told.checks)
        if not warned:
            return PASSED[told.kind]
        was = "was" if warned == 1 else "were"
        unmet = f"{counted(warned, 'gate')} that the phase does not enforce {was} missed."
        return f"{PASSED[told.kind]} {unmet}"
    if told.error:
        return told.error
    gates = failed(told.checks)
    more = f", and {counted(len(gates) - 1, 'other gate')}" if len(gates) > 1 else ""
    return f"{missed(gates[0], told.targets)}{more}."


def _recommendation(told: Report) -> str:
    go = told.verdict == "GO"
    if told.kind == "plan":
        proceed = "Proceed: run the phase."
        return proceed if go else "Do not proceed. Mend what stands in the way first."
    if told.kind == "rollback":
        again = "Run the rollback again; it goes on where it stopped."
        return "Nothing is left to do." if go else again
    if go:
        return "Keep the change, and let the application and the analysts use it."
    if not told.approvals:
        return "Nothing was changed. Mend what stands in the way, then run the phase again."
    if told.error:
        return "Go on once that is mended, or take the change back where the window ends before."
    return "Do not rely on the change yet: mend what was missed, or take the change back."
