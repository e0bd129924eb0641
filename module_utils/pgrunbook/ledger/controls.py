# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person tells a run that is at work: pause, resume, abort, keep below a rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.connection import Connection
from ..core.errors import RunbookError
from .events import event
from .runs import get_run

CONTROL = "control, control_by, rows_per_second"
"""The columns of pgrunbook.run that control_of() reads."""


@dataclass(frozen=True)
class Control:
    """What a run was told: action is "pause", "abort" or empty; by is who said so; rows_per_second
    is the rate that it keeps below, 0 where there is none."""

    action: str = ""
    by: str = ""
    rows_per_second: int = 0


@dataclass(frozen=True)
class Told:
    """What a run was told before, and is told now."""

    before: Control
    after: Control

    @property
    def changed(self) -> bool:
        """Whether the run has anything else to do than before."""
        return self.after != replace(self.before, by=self.after.by)


def control_of(row: Mapping[str, Any]) -> Control:
    """What a row of the ledger with CONTROL tells a run."""
    return Control(row["control"], row["control_by"], row["rows_per_second"])


def control(
    conn: Connection, run_id: str, *, action: str, rows_per_second: int, by: str, dry: bool
) -> Told:
    """Tell a run that is at work to pause, resume, abort, or keep below a rate (0 lifts it).

    Raises RunbookError where the run is not at work, or the rate makes no sense.
    """
    row = get_run(conn, run_id)
    if row.state != "running":
        raise RunbookError(
            f"Run {run_id} is not at work: it is {row.state}. Nothing was changed. "
            "Next step: see playbooks/status.yml for one that is."
        )
    if rows_per_second < 0:
        raise RunbookError(
            f"rows_per_second is {rows_per_second}. Next step: pass 0 for no limit, or more."
        )
    before = Control(row.control, row.control_by, row.rows_per_second)
    if action == "throttle":
        after = replace(before, rows_per_second=rows_per_second)
    else:
        after = replace(before, action="" if action == "resume" else action, by=by)
    told = Told(before, after)
    if told.changed and not dry:
        with conn.transaction():
            conn.execute(
                "UPDATE pgrunbook.run SET control = %s, control_by = %s, rows_per_second = %s"
                " WHERE id = %s",
                (after.action, after.by, after.rows_per_second, run_id),
            )
            event(conn, run_id, action, by=by, rows_per_second=after.rows_per_second)
    return told
