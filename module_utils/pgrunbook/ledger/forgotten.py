# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs' journals were forgotten: their entries dropped on purpose, by playbooks/forget.yml.
The events say so. Each part that was dropped has one, and the last part one more."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.connection import Connection, rows_as
from ..core.errors import RunbookError

APPROVED, DROPPED, FORGOTTEN = "forget_approved", "forgetting", "forgotten"
"""The kinds of events: a person's approval, a part of the journal that was dropped, and the end."""

_FORGOTTEN = f"""
SELECT body ->> 'run' AS run, (array_agg(body #>> '{{detail,by}}' ORDER BY id DESC))[1] AS by,
       to_char(max((body ->> 'at')::timestamptz) AT TIME ZONE 'UTC',
               'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at,
       bool_or(body ->> 'kind' = '{FORGOTTEN}') AS whole,
       max((body #>> '{{detail,upto}}')::int8) AS upto,
       (sum((body #>> '{{detail,rows}}')::int8) FILTER (WHERE body ->> 'kind' = '{DROPPED}'))::int8
         AS rows
FROM pgrunbook.event
WHERE body ->> 'kind' IN ('{DROPPED}', '{FORGOTTEN}')
  AND (%(run)s::text IS NULL OR body ->> 'run' = %(run)s)
GROUP BY 1
"""


@dataclass(frozen=True)
class Forgotten:
    """What is dropped of a run's journal: the entries of so many rows, in the batches up to this
    id; by whom, and when last, in ISO 8601, UTC. whole is false where that was broken off."""

    run: str
    by: str
    at: str
    whole: bool
    upto: int
    rows: int


def list_forgotten(conn: Connection, run_id: str | None = None) -> dict[str, Forgotten]:
    """The runs whose journals were forgotten, whole or in part, by their ids; of one run, or of
    all. There has to be a ledger."""
    return {each.run: each for each in rows_as(conn, Forgotten, _FORGOTTEN, {"run": run_id})}


def require_remembered(conn: Connection, run_id: str) -> None:
    """Raise RunbookError where the run's journal was forgotten, even in part."""
    found = list_forgotten(conn, run_id).get(run_id)
    if found is None:
        return
    if not found.whole:
        raise RunbookError(
            f"{found.by} has begun to forget the journal of run {run_id}: the entries of "
            f"{found.rows:,} rows were dropped, the last on {found.at}, so these cannot be given "
            "back any more, and this run cannot be rolled back. Nothing was changed. Next step: "
            f"playbooks/forget.yml -e run={run_id} finishes it."
        )
    raise RunbookError(
        f"Run {run_id} was forgotten: {found.by} has dropped its journal on {found.at}, with the "
        f"entries of {found.rows:,} rows, so nobody knows which rows it filled, and none can be "
        "given back. Nothing was changed. Next step: restore the table from a backup of before the "
        "run; or, to take back its names, types and indexes only, run the undo statements of its "
        "report by hand."
    )
