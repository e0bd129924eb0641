# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person tells a run that is at work: pause, resume, abort, keep below a rate."""

from __future__ import annotations

from typing import Any

from ..core.connection import Connection
from ..core.errors import RunbookError
from .events import event
from .runs import get_run


def control(
    conn: Connection, run_id: str, *, action: str, rows_per_second: int, by: str, dry: bool
) -> dict[str, Any]:
    """Tell a run that is at work to pause, resume, abort, or keep below a rate (0 lifts it).

    Raises RunbookError where the run is not at work, or the rate makes no sense.
    """
    row = get_run(conn, run_id)
    if row["state"] != "running":
        raise RunbookError(
            f"Run {run_id} is not at work: it is {row['state']}. Nothing was changed. "
            "Next step: see playbooks/status.yml for one that is."
        )
    if rows_per_second < 0:
        raise RunbookError(
            f"rows_per_second is {rows_per_second}. Next step: pass 0 for no limit, or more."
        )
    before = {"control": row["control"], "rows_per_second": row["rows_per_second"]}
    told = {"rows_per_second": rows_per_second} if action == "throttle" else {"control": action}
    after = {**before, **told, **({"control": ""} if action == "resume" else {})}
    if after != before and not dry:
        with conn.transaction():
            conn.execute(
                "UPDATE pgrunbook.run SET control = %s, control_by = %s, rows_per_second = %s"
                " WHERE id = %s",
                (
                    after["control"],
                    row["control_by"] if action == "throttle" else by,
                    after["rows_per_second"],
                    run_id,
                ),
            )
            event(conn, run_id, action, by=by, rows_per_second=after["rows_per_second"])
    limit = after["rows_per_second"]
    return {
        "changed": after != before,
        "text": f"Run {run_id}: {after['control'] or 'go on'}, "
        f"{f'at most {limit:,} rows/s' if limit else 'at full rate'}.",
        "diff": {"before": _listing(before), "after": _listing(after)},
    }


def _listing(told: dict[str, Any]) -> str:
    return "".join(f"{key}: {value or 'none'}\n" for key, value in told.items())
