# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do to the table, its source or the ledger while rows are filled or given back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg

from .. import catalog, ledger
from ..catalog import TableInfo, surroundings
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.spec import Spec
from ..ledger import Progress

_OF_NAMES = "42"  # the class of errors about what is not there, is of another type, or not allowed


@contextlib.contextmanager
def explained(
    conn: Connection, spec: Spec, run: ledger.Run, plan: Mapping[str, Any]
) -> Iterator[None]:
    """Where the server refuses a statement inside because of what somebody has changed meanwhile,
    raise RunbookError that names the change."""
    try:
        yield
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(_OF_NAMES):
            ledger.require_owner(conn, run)
            require_as_approved(conn, spec, plan)
        raise


def require_as_approved(conn: Connection, spec: Spec, plan: Mapping[str, Any]) -> TableInfo:
    """The table as it is now. Raises RunbookError, naming what is different, where somebody has
    changed what the plan was made on while rows were written."""
    info = catalog.inspect(conn, spec.table)
    surroundings.require_unchanged(conn, spec, info, plan, written=True)
    return info


def emptied(run_id: str, at: Progress) -> str:
    """What is to be said of a table without rows, where the run is so far; nothing where it never
    had a row to fill."""
    if at.rows:
        return f"is empty, although run {run_id} has filled {at.rows:,} rows of it"
    if at.rows_eligible:
        return f"is empty, although run {run_id} was to fill {at.rows_eligible:,} rows of it"
    return ""


def require_rows(spec: Spec, info: TableInfo, run: ledger.Run, at: Progress) -> None:
    """Raise RunbookError where the run has filled rows, or was to, and the table has none any
    more."""
    told = "" if info.pages else emptied(run.id, at)
    if not told:
        return
    raise RunbookError(
        f"{spec.table} {told}: somebody has emptied it, with TRUNCATE or with DELETE and VACUUM. "
        "No row is left to be filled or judged. Next step: find out who did that and why. Once it "
        "has its rows, run the playbook again, which goes on; or playbooks/rollback.yml -e "
        f"run={run.id} ends the run."
    )
