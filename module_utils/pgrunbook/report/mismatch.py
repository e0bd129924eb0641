# SPDX-License-Identifier: GPL-3.0-or-later
"""How the models and the database disagreed before the run: why, in what, and what that affects."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.spec import Spec
from ..drift import Difference
from .evidence import differences
from .facts import Facts
from .value import Inconsistency, Mismatch, Report

_UNKNOWN = (
    "No catalog records who changed a name, or when; look for a migration that never ran here, "
    "that ran with another name, or for a change that was made by hand."
)


def mismatch(told: Report, spec: Spec | None, facts: Facts) -> Mismatch:
    """The mismatch as it was before the run; empty where nobody compared, or a rollback."""
    before = told.drift
    if not before:
        return Mismatch()
    mended = tuple(_mended(told))
    return Mismatch(
        cause=_cause(before),
        inconsistencies=tuple(
            Inconsistency(each.component, each.expected, each.found, _now(each, mended))
            for each in before
            if each.component
        ),
        mended=mended,
        affected=tuple(_affected(before, facts)),
        not_affected=tuple(_not_affected(before, spec, facts)),
    )


def _cause(before: tuple[Difference, ...]) -> str:
    worst = [d for d in before if d.severity == "critical"]
    if not worst:
        return ""
    first = worst[0]
    return (
        f"The database and the models went apart: for {first.component or first.object} the models "
        f"have {first.expected or 'something else'}, the database has {first.found or 'not'}. "
        f"{_UNKNOWN}"
    )


def _mended(told: Report) -> Iterator[str]:
    """The objects that differed before the run, and do not any more."""
    after = [gate for gate in told.checks if gate.id == "schema" and told.kind == "run"]
    for gate in after:
        still = {each.object for each in differences(gate)}
        yield from (each.object for each in told.drift if each.object not in still)


def _now(of: Difference, mended: tuple[str, ...]) -> str:
    """How a component is that was otherwise before the run."""
    if of.object in mended:
        return "as the models have it"
    if of.by_phase:
        return "as found; this phase mends it"
    return "as found; acknowledged" if of.acknowledged else "as found"


def _affected(before: tuple[Difference, ...], facts: Facts) -> Iterator[str]:
    for each in before:
        if each.severity != "note":
            yield f"{each.component or each.object}: {each.impact}"
    for dependent in facts.plan.plan.dependents:
        if not dependent.get("follows", True):
            yield (
                f"{dependent['object']}: it names column {dependent['column']} as text, and does "
                "not go along with a change of the name"
            )
    if facts.plan.plan.triggers:
        yield f"Triggers that fire for each row: {', '.join(facts.plan.plan.triggers)}"


def _not_affected(before: tuple[Difference, ...], spec: Spec | None, facts: Facts) -> Iterator[str]:
    if spec is None:
        return
    odd = {each.object for each in before}
    right = [c.name for c in spec.columns if f"{spec.table.name}.{c.name}" not in odd]
    if right:
        yield f"Columns of this phase that are as the models have them: {', '.join(right)}"
    columns = facts.plan.plan.schema.get("columns", {})
    named = {c.name for c in spec.columns} | {c.renamed_from for c in spec.columns}
    others = [c for c in columns if c not in named and f"{spec.table.name}.{c}" not in odd]
    if others:
        yield f"{len(others)} other columns of {spec.table}, which this phase does not change"
    following = [d["object"] for d in facts.plan.plan.dependents if d.get("follows", True)]
    if following:
        yield f"What goes along with a change of the name by itself: {', '.join(following)}"
