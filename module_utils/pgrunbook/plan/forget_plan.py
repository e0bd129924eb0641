# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that forgets a run's journal, and what can no longer be undone then. Only reads."""

from __future__ import annotations

import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .. import ledger
from ..catalog import trusted_ledger
from ..core import printable
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.server import Identity
from ..core.spec import Spec
from ..core.values import plain
from ..gates import alterations
from ..ledger import evidence, forget, forgotten, identity, integrity
from .text import WIDTH


@dataclass(frozen=True)
class ForgetPlan:
    """What would be forgotten, all of which is hashed and approved: the run, the server, how many
    batches and rows its journal has, and its SHA-256. altered says what was changed in the journal
    since it was written."""

    forgets: str
    server: Identity
    batches: int
    rows: int
    sha256: str
    altered: list[str]


@dataclass(frozen=True)
class ForgetResult:
    """A plan to forget a run's journal, and what is shown with it: the run's phase, the journal as
    it is, the schema changes of the run that stand, what was dropped of the journal before, and the
    statements."""

    plan: ForgetPlan
    run: ledger.Run
    spec: Spec
    left: forget.Left
    standing: list[ledger.Change]
    before: forgotten.Forgotten | None
    queries: list[str]

    @property
    def needed(self) -> bool:
        """Whether there is anything to drop."""
        return bool(self.left.batches)

    def as_json(self) -> dict[str, Any]:
        """What the module returns, except for the text."""
        return {
            "changed": False,
            "plan": plain(self.plan),
            "plan_hash": self.run.plan_hash,
            "run": plain(self.run),
            "needed": self.needed,
            "counts": {"rows_total": 0, "rows_eligible": self.left.rows, "rows_skipped": {}},
            "journal": plain(self.left),
            "queries": self.queries if self.needed else [],
        }


def build_forget(
    conn: Connection, run_id: str, *, accept_incomplete_journal: bool = False
) -> ForgetResult:
    """The plan that drops what is left of a run's journal.

    Raises RunbookError where the run is not known or has not ended, the ledger is not to be
    trusted, or its journal or state is not as it was written, unless that is accepted.
    """
    forget.require_ended(conn, run_id)
    spec = ledger.approved_spec(conn, run_id)
    trusted_ledger.require_own_ledger(conn, spec)
    altered = _altered(conn, run_id)
    if altered and not accept_incomplete_journal:
        raise RunbookError(
            f"{' '.join(altered)} Once it is forgotten nobody can find out what was changed. "
            "Nothing was changed. Next step: find out who may write to schema pgrunbook; then pass "
            "-e accept_incomplete_journal=true to forget what is left."
        )
    left = forget.left(conn, run_id)
    counted = {name: getattr(left, name) for name in forget.COVERED}
    plan = ForgetPlan(run_id, identity.identity(conn), **counted, altered=altered)
    run = ledger.Run(run_id, ledger.plan_hash(plain(plan)), uuid.uuid4().hex, plain(plan.server))
    return ForgetResult(
        plan=plan,
        run=run,
        spec=spec,
        left=left,
        standing=ledger.standing_changes(conn, run_id),
        before=forgotten.list_forgotten(conn, run_id).get(run_id),
        queries=forget.statements(conn),
    )


def _altered(conn: Connection, run_id: str) -> list[str]:
    """What somebody has changed in the run's journal, schema changes or state."""
    return alterations.altered(
        evidence.Evidence(
            states=tuple(each for each in integrity.states(conn) if each.run == run_id),
            journals=integrity.compare(conn, run_id),
        )
    )


def forget_text(result: ForgetResult) -> str:
    """What would be dropped and kept, what can no longer be undone, and the hash."""
    result = printable.every(result)
    before = result.before
    lines = [f"Forget the journal of run {result.run.id}", ""]
    if not result.needed:
        told = "Nothing to forget: the run has no journal."
        if before:
            told = f"Nothing to forget: {before.by} has forgotten this journal on {before.at}."
        return "\n".join([*lines, told, "", f"Plan hash: {result.run.plan_hash}"])
    for heading, sentences in (
        ("Dropped", _dropped(result)),
        ("Kept", _kept()),
        ("Can no longer be undone", _undone_no_more(result)),
        ("Space", _space()),
    ):
        lines.append(heading)
        for sentence in sentences:
            lines += textwrap.wrap(
                sentence, WIDTH, initial_indent="   ", subsequent_indent="      "
            )
    for sentence in result.plan.altered:
        lines += textwrap.wrap(f"ACCEPTED  {sentence}", WIDTH)
    return "\n".join([*lines, "", f"Plan hash: {result.run.plan_hash}"])


def _dropped(result: ForgetResult) -> Iterator[str]:
    left = result.left
    yield (
        f"The entries of {left.rows:,} rows in {left.batches:,} batches: {left.bytes:,} bytes of "
        "the journal, as they are stored."
    )
    yield f"SHA-256 of the journal: {left.sha256}"
    if result.before:
        yield (
            f"{result.before.by} has dropped the entries of {result.before.rows:,} rows before, "
            f"until {result.before.at}. This finishes it."
        )


def _kept() -> Iterator[str]:
    yield (
        "The run, its approvals, schema changes and events; of each batch its rows, pages and "
        "times; and what a rollback left alone."
    )


def _undone_no_more(result: ForgetResult) -> Iterator[str]:
    """From how the rollback works: it goes by the journal, and is one for rows and schema."""
    run_id, table, standing = result.run.id, str(result.spec.table), result.left.standing
    if result.spec.waive_rollback:
        yield f"The rows that run {run_id} filled could not be given back before: it waived that."
    elif standing:
        yield (
            f"{standing:,} rows of run {run_id} of {table} cannot be given back exactly any more: "
            "nobody will know which rows it filled, and with what."
        )
    else:
        yield f"No row of run {run_id} of {table} is still to be given back."
    yield f"playbooks/rollback.yml -e run={run_id} is refused from then on, all of it."
    if result.standing:
        changes = "; ".join(_change(change) for change in result.standing)
        yield (
            f"So it takes none of its schema changes back either: {changes}. The undo statements "
            "in the run's report do, by hand; the values of the rows stay."
        )
    if standing:
        yield (
            "The rollback of an earlier run of this table cannot tell any more whether this run "
            "has filled rows of it again, and asks for an acknowledgement."
        )
        yield (
            "The gates can no longer tell rows of this run that differ because the source has "
            "changed since from wrong ones."
        )


def _change(change: ledger.Change) -> str:
    what = f"{change.old} to {change.new}" if change.old else change.new
    return f"{change.kind} of {what}"


def _space() -> Iterator[str]:
    yield (
        "VACUUM pgrunbook.batch gives the space back to the database, for the journals of later "
        "runs, once no open transaction can see the old entries. It is run afterwards, if the role "
        "may; else autovacuum does it."
    )
