# SPDX-License-Identifier: GPL-3.0-or-later
"""What an approval makes an execution's own: the run, new or begun before."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from ..core.connection import Connection
from ..core.errors import RunbookError
from .forgotten import require_remembered
from .refusals import try_again
from .runs import (
    Run,
    Unfinished,
    get_run,
    latest,
    require_idle,
    require_no_rollback,
    require_table_idle,
    unfinished,
)


def claim(
    conn: Connection,
    run: Run,
    spec: dict[str, Any],
    baseline: dict[str, Any],
    operator: str,
) -> None:
    """Record the run, or make one that was begun this execution's. Raises RunbookError where
    another is at work on the table, or the plan is out of date."""
    phase, table = spec["phase"], f"{spec['schema']}.{spec['table']}"
    begun = unfinished(conn, phase, table)
    require_idle(begun)
    require_table_idle(conn, table)
    _require_still_planned(conn, run, begun)
    _require_none_since(conn, run, phase, table, baseline.get("newest_run"))
    conn.execute(
        "INSERT INTO pgrunbook.run"
        " (id, phase, table_name, plan_hash, execution, operator, state, rows_eligible, baseline)"
        " VALUES (%s, %s, %s, %s, %s, %s, 'running', %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET plan_hash = excluded.plan_hash,"
        " execution = excluded.execution, operator = excluded.operator, state = 'running',"
        " sweep = 0, end_page = NULL, control = '', control_by = '', rows_per_second = 0,"
        " active_sessions = NULL, seen_at = clock_timestamp()",
        (
            run.id,
            phase,
            table,
            run.plan_hash,
            run.execution,
            operator,
            baseline.get("counts", {}).get("rows_eligible", 0),
            Jsonb(baseline),
        ),
    )
    try_again(conn, run.id)


def _require_still_planned(conn: Connection, run: Run, begun: Unfinished | None) -> None:
    """Raise RunbookError where the plan of this run is out of date: begun, the unfinished run of
    the phase, is another one, this one has ended, or its rollback was begun."""
    if begun and begun.id != run.id:
        raise RunbookError(
            f"Run {begun.id} of {begun.operator} on this table was begun after this plan was "
            "made, and is not finished. Nothing was changed. Next step: run the playbook again; it "
            "goes on with that run."
        )
    require_no_rollback(begun)
    ended = conn.execute(
        "SELECT state FROM pgrunbook.run WHERE id = %s AND state IN ('finished', 'reverted')",
        (run.id,),
    ).fetchone()
    if ended:
        raise RunbookError(
            f"Run {run.id}, with which this plan was to go on, is {ended['state']} meanwhile. "
            "Nothing was changed. Next step: run the playbook again and read the new plan."
        )


def _require_none_since(
    conn: Connection, run: Run, phase: str, table: str, planned: str | None
) -> None:
    """Raise RunbookError where another run of the phase is newer than this one's plan, in which
    planned was the newest, empty where there was none. An earlier version did not say."""
    newest = latest(conn, phase, table)
    if planned is not None and newest and newest.id not in (planned, run.id):
        verdict = f", {newest.verdict}" if newest.verdict else ""
        raise RunbookError(
            f"Run {newest.id} on this table was begun after this plan was made, and is "
            f"{newest.state}{verdict}. Nothing was changed. Next step: run the playbook again; it "
            "plans what is left."
        )


def take_over(conn: Connection, run: Run, operator: str) -> None:
    """Make a run this execution's, for its rollback. Raises RunbookError where somebody works on it
    or on its table, or its journal is being forgotten."""
    row = get_run(conn, run.id)
    require_idle(row)
    require_table_idle(conn, row.table_name)
    conn.execute(
        "UPDATE pgrunbook.run SET execution = %s, operator = %s, state = 'running',"
        " control = '', control_by = '', rows_per_second = 0, active_sessions = NULL,"
        " seen_at = clock_timestamp()"
        " WHERE id = %s",
        (run.execution, operator, run.id),
    )
    # The row is ours now: whoever forgets a part of the journal has it until that is committed.
    require_remembered(conn, run.id)
