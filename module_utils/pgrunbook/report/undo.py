# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run is taken back: the command, and the SQL that undoes its schema change by hand."""

from __future__ import annotations

from ..core.spec import Spec
from ..ddl.index_advice import drop
from ..ledger import INDEX_KEPT
from ..plan.text import copyable
from .changes import LOCK_TIMEOUT_MS
from .facts import Facts
from .repeat import playbook
from .value import Change, Report, Undo, Undoable

_AGAIN = "A rollback is undone by running the phase again."
_NOTHING = "Nothing was approved, so nothing was changed and there is nothing to undo."
_WAIVED = (
    "The phase waived its rollback, so nobody knows which rows it changed: they come back from a "
    "backup only. The SQL below undoes the schema change."
)
_ROLLBACK = (
    "The rollback gives back just the rows in the journal, and only where they still hold what the "
    "run wrote; then it takes back indexes and renames, with the SQL below. It asks for an "
    "approval of its own, and --check shows it beforehand. The SQL by itself gives back no row and "
    "drops no column."
)


def undo(told: Report, spec: Spec | None, facts: Facts) -> Undo:
    """How to take the run back."""
    if told.kind == "rollback":
        return Undo(playbook(facts), _AGAIN)
    if not told.approvals:
        return Undo("", _NOTHING)
    statements = (*_kept(spec, facts), *_statements(told))
    timeout = spec.lock_timeout_ms if spec else LOCK_TIMEOUT_MS
    by_hand = "\n".join(copyable("", list(statements), timeout))
    if spec and spec.waive_rollback:
        return Undo("", _WAIVED, statements, by_hand)
    command = playbook(facts, "playbooks/rollback.yml", f"-e run={told.run_id}")
    return Undo(command, _ROLLBACK, statements, by_hand)


def _statements(told: Report) -> list[str]:
    """What undoes each statement, the last one first. Where the run came to its end, an index that
    was dropped and built again needs none; nor does one that was tried and not kept."""
    pairs = [
        pair
        for change in reversed(told.changes)
        for pair in reversed(_undoable(change))
        if pair.undo
    ]
    again = {pair.sql for pair in pairs} & {pair.undo for pair in pairs}
    restored = set() if told.error else again
    return [pair.undo for pair in pairs if not restored & {pair.sql, pair.undo}]


def _undoable(change: Change) -> tuple[Undoable, ...]:
    return () if change.step in ("backfill", "index_trial") else change.statements


def _kept(spec: Spec | None, facts: Facts) -> list[str]:
    """What drops the indexes that were tried and kept."""
    details = [e.detail for e in facts.history.events if e.kind == INDEX_KEPT]
    return [drop(spec, detail["new"]) for detail in details if spec]
