# SPDX-License-Identifier: GPL-3.0-or-later
"""How the database is when the report is written, as far as the run's steps have seen it."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.spec import Spec
from ..ddl.index_advice import megabytes
from .facts import Facts
from .in_short import counted
from .value import Fact, Report

UNCHANGED = "nothing was changed"


def state(told: Report, spec: Spec | None, facts: Facts) -> Iterator[Fact]:
    """What a person wants to know of the database first."""
    yield Fact("Changes", _changes(told))
    if spec:
        yield from _columns(told, spec, facts)
    yield from _rows(told)
    yield Fact("Indexes", _indexes(told, facts))
    if told.health.get("table_bytes"):
        yield Fact("Table", f"{megabytes(told.health['table_bytes'])} before the run")
    yield Fact("Way back", _way_back(told, spec))


def _changes(told: Report) -> str:
    if not told.approvals:
        return UNCHANGED
    if told.kind == "rollback":
        return "taken back" if told.verdict == "GO" else "taken back in part"
    return "half-done; nothing is at work any more" if told.error else "made"


def _columns(told: Report, spec: Spec, facts: Facts) -> Iterator[Fact]:
    """Those that the phase renames."""
    columns = _names(told, facts)
    for column in spec.columns:
        old, new = column.renamed_from, column.name
        if not old or not columns:
            continue
        if new in columns:
            yield Fact("Column", f"{new}" + ("" if old in columns else f"; no more {old}"))
            yield Fact("Application", f"has to be on models that name {new}")
        elif old in columns:
            undone = told.kind == "rollback"
            yield Fact("Column", f"{old}, no more {new}" if undone else f"{old}, not yet {new}")
            yield Fact("Application", f"has to be on models that name {old}")


def _names(told: Report, facts: Facts) -> set[str]:
    """The names of the columns: as seen last, or, where a run broke off before anybody looked, as
    they were with each change of a name that the ledger has since."""
    if told.schema.after:
        return set(told.schema.after.get("columns", {}))
    names = set(facts.history.before.get("columns") or told.schema.before.get("columns", {}))
    for event in facts.history.events:
        old, new = event.detail.get("old"), event.detail.get("new")
        if event.kind in ("rename", "convert") and old in names:
            names = names - {old} | {new}
        elif event.kind in ("rename_undone", "convert_undone") and new in names:
            names = names - {new} | {old}
    return names


def _rows(told: Report) -> Iterator[Fact]:
    done = told.backfill
    if told.kind == "rollback":
        left = f"; {done.rows_left_alone:,} left alone" if done.rows_left_alone else ""
        yield Fact("Rows", f"{done.rows_changed:,} given back{left}")
    elif not told.approvals:
        about = "about " if done.rows_estimated else ""
        if done.rows_total:
            yield Fact("Rows", f"{about}{done.rows_eligible:,} of {done.rows_total:,} to fill")
    else:
        refused = f"; {done.rows_refused:,} set aside" if done.rows_refused else ""
        yield Fact("Rows", f"{done.rows_changed:,} of {done.rows_eligible:,} filled{refused}")


def _indexes(told: Report, facts: Facts) -> str:
    """Which are missing; by the ledger and the catalog, or by the validation."""
    missing = facts.record.missing
    if missing:
        return f"MISSING: {', '.join(missing)}"
    gate = next((gate for gate in told.checks if gate.id == "indexes"), None)
    if gate:
        return str(gate.measured)
    if not told.approvals:
        found = told.schema.before.get("indexes", {})
        return counted(len(found), "index", "indexes") if found else "not looked at"
    return "all that the run dropped are there again" if missing is not None else "not looked at"


def _way_back(told: Report, spec: Spec | None) -> str:
    if not told.approvals:
        return "none is needed"
    if told.kind == "rollback":
        return "run the phase again"
    if spec and spec.waive_rollback:
        return "a backup: the phase waived its rollback"
    return "the rollback: the journal has every row that was changed"
