# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did to the database, in SQL, each statement with what undoes it."""

from __future__ import annotations

from dataclasses import replace

from ..core.spec import SPEC_OPTIONS
from ..ddl.step import Step
from ..plan.text import copyable
from .facts import Facts
from .value import Change, Report, Undoable

LOCK_TIMEOUT_MS: int = SPEC_OPTIONS["lock_timeout_ms"]["default"]


def changes(told: Report, facts: Facts) -> tuple[Change, ...]:
    """Each step that was approved and has SQL. A run that was resumed has its steps once, with the
    statements of all its plans."""
    if not told.approvals:
        return ()
    planned = facts.plan.plan
    steps = planned.steps if told.kind == "rollback" else facts.steps
    found: dict[str, Change] = {}
    for step in steps:
        if step.statements:
            begun = found.get(step.id) or _begun(step, told, facts)
            found[step.id] = _with_statements(begun, step)
    timeout = (planned.spec or {}).get("lock_timeout_ms", LOCK_TIMEOUT_MS)
    return tuple(_with_texts(change, timeout) for change in found.values())


def _begun(step: Step, told: Report, facts: Facts) -> Change:
    """The step, with how much of it was recorded, and without its statements."""
    kinds, rollback = [event.kind for event in facts.history.events], told.kind == "rollback"
    undone = kinds.count(f"{step.id}_undone")
    recorded = undone if rollback else kinds.count(step.id)
    return Change(
        step=step.id,
        title=step.title,
        statements=(),
        lock=step.lock,
        omitted=0,
        recorded=told.backfill.rows_changed if step.id == "backfill" else recorded,
        taken_back=0 if rollback else undone,
    )


def _with_statements(change: Change, step: Step) -> Change:
    """The change with those of the step's statements that it does not have yet, and of those that
    differ in the partition only with the first."""
    few = _grouped(step).distinct()
    pairs = [Undoable(statement.sql, statement.undo) for statement in few]
    return replace(
        change,
        statements=(*change.statements, *(pair for pair in pairs if pair not in change.statements)),
        omitted=max(change.omitted, sum(statement.more for statement in few)),
    )


def _grouped(step: Step) -> Step:
    """The step as today's version plans it. An older one does not tell which statements are alike:
    of its backfill the first one does a batch, and the last is the VACUUM."""
    if step.alike or step.id != "backfill":
        return step
    return replace(step, alike=(len(step.statements) - 1, 1))


def _with_texts(change: Change, timeout: int) -> Change:
    """The change with its statements, and with those that undo it, as they can be copied."""

    def script(statements: list[str]) -> str:
        return "\n".join(_ended(text) for text in copyable(change.step, statements, timeout))

    return replace(
        change,
        sql_text=script([pair.sql for pair in change.statements]),
        undo_text=script([pair.undo for pair in change.statements if pair.undo]),
    )


def _ended(text: str) -> str:
    """A statement with its semicolon; a text that has one is left alone, and so is a command."""
    return text if text.endswith(";") or text.startswith("playbooks/") else f"{text};"
