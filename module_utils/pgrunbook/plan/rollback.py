# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that undoes a run."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from .. import catalog, ledger
from ..backfill import rollback, rollback_checks
from ..catalog import row_security, surroundings, trust
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.locks import require_unlocked
from ..core.obstacles import Obstacles
from ..core.values import plain
from ..ddl import columns_back, indexes_back
from ..ddl.step import Step
from ..ledger import filled, identity, journal
from . import rehearsal
from .build import stored_spec
from .text import rollback_text


def build_rollback(
    conn: Connection,
    run_id: str,
    acknowledged: Collection[str] = (),
    *,
    accept_incomplete_journal: bool = False,
) -> dict[str, Any]:
    """The plan that undoes a run: its rows through the journal, then its indexes and columns.

    acknowledged has the triggers that may fire for it, besides those of the phase, the table's name
    where it was made anew, and later runs whose values may go too. Raises RunbookError for
    everything that would make the rollback fail later, and for a journal that is not as it was
    written, unless that is accepted.
    """
    row = ledger.get_run(conn, run_id)
    ledger.require_idle(ledger.unfinished(conn, row.phase, row.table_name))
    ledger.require_table_idle(conn, row.table_name)
    spec = stored_spec(conn, run_id)
    trust.look_up(conn, spec)
    row_security.require_all_rows(conn, spec, with_source=False)
    if spec.waive_rollback:
        raise RunbookError(
            f"Run {run_id} waived its rollback (phase_waive_rollback), so nobody knows which rows "
            "it changed. Nothing was changed. Next step: restore from a backup."
        )
    info = catalog.inspect(conn, spec.table)
    require_unlocked(conn, info.oid, str(spec.table))
    run = ledger.Run(run_id, "", "")
    found = _require_journal(conn, run_id, accepted=accept_incomplete_journal)
    anew = filled.require_same_table(conn, spec, info, run_id, acknowledged)
    filled.require_key(conn, spec, info, run_id)
    names = filled.present_columns(conn, spec, info, run_id)
    rows = rollback.revert_slice(conn, spec, run, dry=True)
    triggers: list[str] = []
    obstacles = Obstacles(conn)
    again = None
    if rows["changed"]:
        again = obstacles.checked(
            rollback_checks.require_latest, conn, spec, info, run_id, acknowledged
        )
        obstacles.checked(rollback_checks.require_possible, conn, spec, info, names.values())
        obstacles.checked(rollback_checks.require_no_references, conn, spec, info, names.values())
        obstacles.checked(rehearsal.require_rollback, conn, spec, info, names)
        triggers = (
            obstacles.checked(rollback.require_triggers, conn, spec, info, names, acknowledged)
            or []
        )
    obstacles.checked(columns_back.require_revertible, conn, spec, run)
    obstacles.require_none()
    built = indexes_back.revert(conn, spec, run, dry=True)
    renamed = columns_back.revert(conn, spec, run, dry=True)
    plan: dict[str, Any] = {
        "undoes": run_id,
        "spec": spec.as_dict(),
        "server": plain(identity.identity(conn)),
        "schema": info.schema(),
        "surroundings": surroundings.read(conn, spec, info, with_source=False),
        "triggers": triggers,
        "columns_gone": rows["columns_gone"],
        "notes": [*anew, *(again or []), *renamed.warnings],
        "journal_altered": [*found.altered, *found.gone],
        "steps": [
            Step(
                "backfill",
                "Give back the rows that the run changed",
                tuple(rows["queries"]),
                undo=(),
                lock=rollback.LOCK,
            ).as_json(),
            indexes_back.step(conn, info, run_id, built).as_json(),
            columns_back.step(renamed).as_json(),
        ],
    }
    hashed = ledger.plan_hash(plan)
    result = {
        "changed": False,
        "spec": spec.as_dict(),
        "plan": plan,
        "plan_hash": hashed,
        "run": {
            "id": run_id,
            "plan_hash": hashed,
            "execution": uuid.uuid4().hex,
            "server": plan["server"],
        },
        "needed": bool(rows["changed"] or built.changed or renamed.changed),
        "counts": {"rows_total": 0, "rows_eligible": rows["rows_changed"], "rows_skipped": {}},
        "queries": [q for step in plan["steps"] for q in step["statements"]],
    }
    result["journal_unknown"] = list(found.unknown)
    return {**result, "text": rollback_text(result)}


def _require_journal(conn: Connection, run_id: str, *, accepted: bool) -> journal.Findings:
    """What became of the run's journal. Raises RunbookError where it is not as it was written, and
    nobody accepted that."""
    found = journal.compare(conn, run_id)
    if not accepted and (found.altered or found.gone):
        raise RunbookError(
            f"{' '.join([*found.altered, *found.gone])} A rollback would give back only what is "
            "left of it. Nothing was changed. Next step: find out who may write to schema "
            "pgrunbook, and restore pgrunbook.batch from a backup; or, to give back what is left, "
            "pass -e accept_incomplete_journal=true."
        )
    return found
