# SPDX-License-Identifier: GPL-3.0-or-later
"""The risks that a gate has measured."""

from __future__ import annotations

from collections.abc import Iterator

from ..drift import Difference
from ..gates import Gate
from . import in_short
from .evidence import differences
from .value import Report, Risk


def missed(told: Report) -> Iterator[Risk]:
    """Each gate that was missed, unless another risk tells it."""
    for gate in told.checks:
        failed = gate.status == "fail"
        told_elsewhere = ["schema"] if failed else ["schema", "remaining", "orphans"]
        if gate.status == "pass" or gate.id in told_elsewhere:
            continue
        yield Risk(
            f"{in_short.missed(gate, told.targets)}.",
            "certain: measured",
            "high: an enforced gate"
            if failed
            else "medium: a gate that the phase does not enforce",
            _mitigation(gate, failed=failed),
        )


def _mitigation(gate: Gate, *, failed: bool) -> str:
    """What helps, or what it leads to."""
    if index := in_short.proposed_index(gate):
        return f"An index would serve the query; add to phase_indexes: {index}"
    return "The verdict is NO-GO." if failed else "None: accepted with the phase's settings."


def schema(told: Report) -> Iterator[Risk]:
    """Each difference from the models that is more than a note."""
    found = [d for gate in told.checks for d in differences(gate) if d.severity != "note"]
    for difference in found:
        high = difference.severity == "critical" and not difference.acknowledged
        yield Risk(
            f"Schema: {difference.text}.",
            "certain: measured",
            f"{'high' if high else 'medium'}: "
            f"{difference.impact or 'the models expect something else'}",
            _way_out(difference),
        )


def _way_out(difference: Difference) -> str:
    if difference.acknowledged:
        return "The phase acknowledges it."
    recommended = [option.option for option in difference.resolutions if option.recommended]
    return f"Recommended: {recommended[0]}." if recommended else "See test 2."


def left(told: Report) -> Iterator[Risk]:
    """Rows that lack their values after the run."""
    for gate in told.checks:
        if gate.status == "pass":
            continue
        if gate.id == "remaining":
            rows = (gate.evidence or {}).get("left", gate.measured)
            yield Risk(
                f"{rows:,} rows are left that the source could fill.",
                "certain: measured",
                "medium: queries on the filled columns do not find them",
                "Running the phase again fills them. New rows appear here as long as the "
                "application writes rows without these values.",
            )
        if gate.id == "orphans":
            yield Risk(
                f"{gate.measured:,} rows have a source key without a source row.",
                "certain: measured",
                "low: they stay NULL",
                "They are counted, never filled with a stand-in. Running the phase again fills "
                "them once they have a source row.",
            )


def drifted(told: Report) -> Iterator[Risk]:
    """Rows whose source has changed since they were filled."""
    rows = _compared(told, "drifted")
    if rows:
        yield Risk(
            f"The source has changed since {rows:,} rows were filled.",
            "certain: measured",
            "low: these rows hold what was right when they were filled",
            "They are told apart from wrong ones by the journal. Nothing follows the source "
            "later: the columns are a snapshot.",
        )


def old_values(told: Report) -> Iterator[Risk]:
    """Rows that keep what a converted column held."""
    rows = _compared(told, "kept")
    if rows:
        yield Risk(
            f"{rows:,} rows keep an old value, converted, that differs from the source.",
            "certain: measured",
            "medium: queries on the filled columns find what the JOIN does not",
            "phase_kept_values says how they count. To take the source's values, empty the old "
            "column in these rows before the run.",
        )


def _compared(told: Report, count: str) -> int:
    """A count of the comparison's evidence; 0 where it was not measured."""
    found = [gate.evidence or {} for gate in told.checks if gate.id == "comparison"]
    return next((rows for each in found if (rows := each.get(count))), 0)
