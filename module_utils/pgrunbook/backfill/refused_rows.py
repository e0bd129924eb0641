# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that the server refuses to fill: set aside, so that all others can be filled.

The ledger keeps the key of each, and what the server said. A later execution of the run tries them
again.
"""

from __future__ import annotations

import psycopg
from psycopg.sql import SQL, Composable, Composed

from .. import ledger
from ..catalog import TableInfo, conversion, page_ranges
from ..core.connection import Connection
from ..core.errors import RunbookError, reason
from ..core.spec import Spec
from ..core.sql import literal
from ..ledger import RefusedRow
from . import eligibility

TOO_LARGE = "54000"
REFUSALS = ("22", "23", "44", "P0", TOO_LARGE)
"""Classes of SQLSTATE that are about what a row would hold: data exceptions, constraints, WITH
CHECK OPTION, what a trigger raises, and what is too large, such as for an index."""
MAX_NAMED = 5


class RowRefused(Exception):
    """The server refused to fill just this row, whose key is given as JSON."""

    def __init__(self, key: str, error: psycopg.Error) -> None:
        super().__init__(key)
        self.row = RefusedRow(key, error.sqlstate or "", reason(error))


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the server refused what a row would hold, so that other rows may be filled."""
    return (error.sqlstate or "").startswith(REFUSALS)


def key(spec: Spec) -> Composed:
    """What the ledger calls a row t."""
    return SQL("jsonb_build_array({})").format(eligibility.identity(spec))


def not_aside(spec: Spec, run: Composable) -> Composed:
    """The condition that a row t is not set aside in the run."""
    return SQL("NOT {}").format(ledger.is_aside(key(spec), run))


def require_few(conn: Connection, spec: Spec, run: ledger.Run) -> None:
    """Raise RunbookError where more rows are set aside than the phase allows."""
    found = ledger.refused(conn, run.id)
    rows = found.rows_refused
    if rows <= spec.unfillable_max:
        return
    filled = ledger.rows_standing(conn, run.id)
    named = "; ".join(f"{row.key}: {row.message}" for row in found.refused[:MAX_NAMED])
    raise RunbookError(
        f"The server refuses to fill {rows:,} {'row' if rows == 1 else 'rows'} of {spec.table}, "
        f"and phase_unfillable_max lets {spec.unfillable_max:,} be set aside. By key: {named}. "
        f"{filled:,} rows were filled and are kept. Next step: mend what these rows hold or would "
        "get; or leave them out with a source expression that gives NULL for them; or raise "
        "phase_unfillable_max to have them set aside and listed. Then run the playbook again; it "
        "goes on where it stopped."
    )


def of_newest_run(conn: Connection, spec: Spec) -> Composed | None:
    """The condition that a row t is set aside in the newest run of the phase on the table; None
    where none is, or rows have no key to know them by."""
    if not spec.key:
        return None
    run_id = ledger.newest_with_rows_aside(conn, spec.phase, str(spec.table))
    return ledger.is_aside(key(spec), literal(run_id)) if run_id else None


def count(conn: Connection, spec: Spec, info: TableInfo, aside: Composable | None) -> int:
    """How many rows that the source could fill are set aside, by the condition of_newest_run()."""
    if aside is None:
        return 0
    held = conversion.held(spec, info.types)

    def counting(rows: Composable) -> Composed:
        return SQL(
            "SELECT count(*) AS n FROM {rows} t {join} ({source}) s ON {matches}"
            " WHERE {eligible} AND {aside}"
        ).format(
            rows=rows,
            join=eligibility.joined(held),
            source=eligibility.source_query(spec),
            matches=eligibility.matches(spec),
            eligible=eligibility.eligible(spec, held),
            aside=aside,
        )

    number: int = page_ranges.summed(conn, spec.table, info, counting, spec.workers)["n"]
    return number
