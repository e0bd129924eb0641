# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be so before a phase is GO, in the order of a run."""

from __future__ import annotations

from collections.abc import Iterator

from ..gates.gate import PASS
from .in_short import failed, missed
from .value import Prerequisite, Report

_AFTERWARDS = {
    "Schema compatibility": "No difference from the models that breaks the application is left",
    "Backfill": "Enough rows have their values",
    "Data quality": "What was filled equals its source",
    "Query performance": "Queries on the filled columns are fast enough, with equal results",
}
"""By the row of the readiness checklist that tells whether it is so."""


def prerequisites(told: Report) -> Iterator[Prerequisite]:
    """Those of a run, and which of them are met."""
    if told.kind == "rollback":
        return
    rows = {row.criterion: row.status for row in told.readiness}
    scopes = {approval.scope for approval in told.approvals}
    yield Prerequisite("A dry run wrote nothing", _met(rows, "Dry-run validation"))
    if told.kind == "plan":
        yield from _beforehand(told)
    yield Prerequisite("Somebody approved the plan", True if "plan" in scopes else None)
    canary = [gate.status == PASS for gate in told.checks if gate.id == "canary"]
    yield Prerequisite("The canary's rows equal their source", canary[0] if canary else None)
    yield Prerequisite(
        "Somebody approved all other rows, shown the measured rate",
        True if "backfill" in scopes else None,
    )
    for row, text in _AFTERWARDS.items():
        met = _met(rows, row) if told.kind == "run" else None
        if met is not None or told.kind != "run" or told.verdict != "GO":  # a GO asked for no more
            yield Prerequisite(text, met)


def _beforehand(told: Report) -> Iterator[Prerequisite]:
    """What stands in the way of a run; one sentence where nothing does."""
    wrong = [missed(gate, told.targets) for gate in failed(told.checks)]
    if told.error:
        wrong.insert(0, told.error)
    for text in wrong:
        yield Prerequisite(text, False)
    if not wrong:
        yield Prerequisite("Nothing that can be seen beforehand stands in the way", True)


def _met(rows: dict[str, str], row: str) -> bool | None:
    status = rows.get(row, "NOT RUN")
    return None if status == "NOT RUN" else status != "FAIL"
