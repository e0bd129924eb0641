# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that undoes a run. Only reads."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .. import catalog, ledger
from ..backfill import rollback, rollback_checks
from ..backfill.result import SliceResult
from ..backfill.strategy import WORTH_ROWS
from ..catalog import TableInfo, row_security, surroundings, trust
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.locks import require_unlocked
from ..core.obstacles import Obstacles
from ..core.spec import Spec
from ..core.values import plain
from ..ddl import clear_indexes, undo_columns, undo_indexes
from ..ddl.schema_change import SchemaChange
from ..ddl.step import Step
from ..gates import alterations
from ..ledger import filled, forgotten, identity, integrity, journal
from . import rehearsal
from .plan import RollbackPlan, RollbackResult


@dataclass(frozen=True)
class _Seen:
    """What was found and does not stop the rollback: the phase and its table, the columns that are
    still there with the names that they bear now, by the phase's names, the state of the journal,
    what giving the rows back would do, which triggers that fires, and notes for a person.
    """

    spec: Spec
    info: TableInfo
    names: dict[str, str]
    journal: journal.Findings
    rows: SliceResult
    triggers: list[str]
    notes: list[str]


def build_rollback(
    conn: Connection,
    run_id: str,
    acknowledged: Collection[str] = (),
    *,
    accept_incomplete_journal: bool = False,
) -> RollbackResult:
    """The plan that undoes a run: its rows through the journal, then its indexes and columns.

    acknowledged has the triggers that may fire for it, besides those of the phase, the table's name
    where it was made anew, and later runs whose values may go too. Raises RunbookError for
    everything that would make the rollback fail later, and for a journal that is not as it was
    written, unless that is accepted.
    """
    run = ledger.Run(run_id, "", "")
    seen = _look(conn, run, acknowledged, accepted=accept_incomplete_journal)
    spec, info, rows, found = seen.spec, seen.info, seen.rows, seen.journal
    cleared = _cleared(conn, seen, run_id)
    built = undo_indexes.revert(conn, spec, run, dry=True, cleared=cleared)
    renamed = undo_columns.revert(conn, spec, run, dry=True)
    plan = RollbackPlan(
        undoes=run_id,
        spec=spec,
        server=identity.identity(conn),
        schema=info.schema(),
        surroundings=surroundings.read(conn, spec, info, with_source=False),
        triggers=seen.triggers,
        columns_gone=list(rows.columns_gone),
        notes=[*seen.notes, *renamed.warnings],
        journal_altered=alterations.of_journals((*found.altered, *found.gone)),
        steps=_steps(conn, seen, run_id, cleared, built, renamed),
    )
    needed = bool(rows.changed) or built.changed or renamed.changed or _unrecorded(conn, run_id)
    seconds = _seconds(conn, spec, run_id, rows.rows_changed)
    unknown = alterations.of_journals(found.unknown)
    undoing = ledger.Run(run_id, plan.hash, uuid.uuid4().hex, plain(plan.server))
    book = ledger.get_run(conn, run_id).playbook
    return RollbackResult(plan, undoing, needed, rows.rows_changed, seconds, unknown, book)


def _seconds(conn: Connection, spec: Spec, run_id: str, rows: int) -> float | None:
    """How long filling so many rows took; giving them back takes about as long."""
    found = ledger.measured_rate(conn, spec.phase, str(spec.table), run_id)
    rate = found.rows_per_second if found else None
    return round(rows / rate, 1) if rate else None


def _cleared(conn: Connection, seen: _Seen, run_id: str) -> list[str]:
    """The indexes to be dropped before the rows are given back, where these are enough for it to
    pay."""
    if seen.rows.rows_changed < WORTH_ROWS:
        return []
    return clear_indexes.in_the_way(conn, seen.spec, seen.info, run_id, seen.names.values())


def _unrecorded(conn: Connection, run_id: str) -> bool:
    """Whether a rollback of the run was begun, and the ledger does not say that it has ended."""
    begun = any(approval.scope == "rollback" for approval in ledger.list_approvals(conn, run_id))
    return begun and ledger.get_run(conn, run_id).state != "reverted"


def _look(
    conn: Connection, run: ledger.Run, acknowledged: Collection[str], *, accepted: bool
) -> _Seen:
    spec = _require_journalled(conn, run.id)
    info = catalog.inspect(conn, spec.table)
    require_unlocked(conn, info.oid, str(spec.table))
    found = _require_journal(conn, run.id, accepted=accepted)
    notes = filled.require_same_table(conn, spec, info, run.id, acknowledged)
    filled.require_key(conn, spec, info, run.id)
    names = filled.present_columns(conn, spec, info, run.id)
    rows = rollback.revert_slice(conn, spec, run, dry=True)
    obstacles = Obstacles(conn)
    triggers: list[str] = []
    given = (conn, spec, info, run.id, acknowledged)
    notes += obstacles.checked(rollback_checks.require_columns_left, *given) or []
    if rows.changed:
        notes += obstacles.checked(rollback_checks.require_partitions, *given) or []
        notes += obstacles.checked(rollback_checks.require_latest, *given) or []
        triggers = _check_rows(conn, spec, info, names, acknowledged, obstacles)
    obstacles.checked(undo_columns.require_revertible, conn, spec, run)
    obstacles.require_none()
    return _Seen(spec, info, names, found, rows, triggers, list(notes))


def _require_journalled(conn: Connection, run_id: str) -> Spec:
    """The phase that a run was approved with. Raises RunbookError where somebody is at work on the
    table, its rows are not all to be seen, or the run has no journal, or none any more."""
    row = ledger.get_run(conn, run_id)
    forgotten.require_remembered(conn, run_id)
    ledger.require_idle(ledger.unfinished(conn, row.phase, row.table_name))
    ledger.require_table_idle(conn, row.table_name)
    spec = ledger.approved_spec(conn, run_id)
    trust.look_up(conn, spec)
    row_security.require_all_rows(conn, spec, with_source=False)
    if spec.waive_rollback:
        raise RunbookError(
            f"Run {run_id} waived its rollback (phase_waive_rollback), so nobody knows which rows "
            "it changed. Nothing was changed. Next step: restore from a backup."
        )
    return spec


def _require_journal(conn: Connection, run_id: str, *, accepted: bool) -> journal.Findings:
    """The state of the run's journal. Raises RunbookError where it was changed since, and nobody
    accepted that."""
    found = integrity.compare(conn, run_id)
    altered = alterations.of_journals((*found.altered, *found.gone))
    if altered and not accepted:
        raise RunbookError(
            f"{' '.join(altered)} A rollback would give back only what is "
            "left of it. Nothing was changed. Next step: find out who may write to schema "
            "pgrunbook, and restore its tables batch and change from a backup; or, to give back "
            "what is left, pass -e accept_incomplete_journal=true."
        )
    return found


def _check_rows(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    names: Mapping[str, str],
    acknowledged: Collection[str],
    obstacles: Obstacles,
) -> list[str]:
    """Collect what would stop the rows from being given back. Returns the triggers that would fire.
    names has the columns that are still there."""
    columns = names.values()
    obstacles.checked(rollback_checks.require_unique_key, spec, info)
    obstacles.checked(rollback_checks.require_possible, conn, spec, info, columns)
    obstacles.checked(rollback_checks.require_no_references, conn, spec, info, columns)
    obstacles.checked(rehearsal.require_rollback, conn, spec, info, names)
    fired = obstacles.checked(rollback.require_triggers, conn, spec, info, names, acknowledged)
    return fired or []


def _steps(
    conn: Connection,
    seen: _Seen,
    run_id: str,
    cleared: Collection[str],
    built: SchemaChange,
    renamed: SchemaChange,
) -> tuple[Step, ...]:
    given_back = Step(
        "backfill",
        "Give back the rows that the run changed",
        seen.rows.queries,
        undo=(),
        lock=rollback.LOCK,
    )
    return (
        *([clear_indexes.step(seen.spec, cleared)] if cleared else []),
        given_back,
        undo_indexes.step(conn, seen.info, run_id, built),
        undo_columns.step(renamed),
    )
