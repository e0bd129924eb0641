# SPDX-License-Identifier: GPL-3.0-or-later
"""The overall risk: high, medium or low, as it was, is, and would be."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.spec import Spec
from ..drift import Difference
from .in_short import failed
from .value import Report, RiskLevel

_BY_SEVERITY = {"critical": "high", "warning": "medium"}


def risk_levels(told: Report, spec: Spec | None) -> Iterator[RiskLevel]:
    """The level now. Of a run also before it; before a run that can be made also after it."""
    if told.kind == "plan":
        yield _before_a_run(told)
        if told.verdict == "GO":
            yield _after_a_run(told, spec)
        return
    if told.kind == "run":
        yield _of_differences("before the run", told.drift)
    if told.risks:
        worst = told.risks[0]
        yield RiskLevel("now", worst.impact.split(":")[0], worst.risk)
    else:
        yield RiskLevel("now", "low", "No fact of the run calls for a risk.")


def _before_a_run(told: Report) -> RiskLevel:
    """To go ahead while something stands in the way is a high risk, whatever the models say."""
    if told.error:
        return RiskLevel(
            "of a run now", "high", "The preflight or the plan failed: a run would as well."
        )
    gates = failed(told.checks)
    if gates:
        return RiskLevel(
            "of a run now", "high", f"A run would end as NO-GO: {gates[0].title} fails."
        )
    return _of_differences("if nothing is done", told.drift)


def _after_a_run(told: Report, spec: Spec | None) -> RiskLevel:
    """What this phase leaves behind."""
    left = tuple(d for d in told.drift if not d.by_phase)
    found = _of_differences("after the run", left)
    if found.level == "low" and spec and spec.waive_rollback:
        return RiskLevel("after the run", "medium", "The phase waives its rollback.")
    return found


def _of_differences(when: str, differences: tuple[Difference, ...]) -> RiskLevel:
    """The level that the worst difference makes which nobody has acknowledged."""
    for severity, level in _BY_SEVERITY.items():
        for each in differences:
            if each.severity == severity and not each.acknowledged:
                return RiskLevel(when, level, f"{each.component or each.object}: {each.impact}.")
    return RiskLevel(when, "low", "The models and the database agree in what matters.")
