# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did to the database, in SQL, each statement with what undoes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from ..core.spec import SPEC_OPTIONS
from ..plan.text import copyable
from .facts import Facts, Step
from .value import Change, Report, Undoable

LOCK_TIMEOUT_MS: int = SPEC_OPTIONS["lock_timeout_ms"]["default"]


def changes(told: Report, facts: Facts) -> tuple[Change, ...]:
    """Each step that was approved and has SQL. A run that was resumed has its steps once, with the
    statements of all its plans."""
    if not told.approvals:
        return ()
    planned = facts.plan.plan
    steps = planned.steps
    if told.kind != "rollback" and facts.history.steps:
        steps = facts.history.steps
    found: dict[str, Change] = {}
    for step in steps:
        if step.statements:
            begun = found.get(step.id) or _begun(step, told, facts)
            found[step.id] = _with_statements(begun, step)
    timeout = (planned.spec or {}).get("lock_timeout_ms", LOCK_TIMEOUT_MS)
    return tuple(_with_texts(change, timeout) for change in found.values())


def _begun(step: Step, told: Report, facts: Facts) -> Change:
    """The step, with how much of it was recorded, and without its statements."""
    undone, rollback = facts.history.recorded(f"{step.id}_undone"), told.kind == "rollback"
    recorded = undone if rollback else facts.history.recorded(step.id)
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
    """The change with those of the step's statements that it does not have yet."""
    pairs = [
        Undoable(sql, undo) for sql, undo in zip_longest(step.statements, step.undo, fillvalue="")
    ]
    few, omitted = _shortened(step, pairs)
    return replace(
        change,
        statements=(*change.statements, *(pair for pair in few if pair not in change.statements)),
        omitted=max(change.omitted, omitted),
    )


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


def _shortened(step: Step, pairs: Sequence[Undoable]) -> tuple[list[Undoable], int]:
    """A step's statements without those that differ from another one in the partition only, and how
    many these are. A plan of an older version does not tell: of its backfill the first one does a
    batch, and the last is the VACUUM."""
    batches = len(pairs) - 1 if step.id == "backfill" else 1
    alike = step.alike or (batches, *[1] * (len(pairs) - batches))
    firsts = [sum(alike[:n]) for n, number in enumerate(alike) if number]
    return [pairs[at] for at in firsts], len(pairs) - len(firsts)
