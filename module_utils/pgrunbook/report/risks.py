# SPDX-License-Identifier: GPL-3.0-or-later
"""The risks that the facts of a run call for, in the order of the page on the report.

Those that follow from what was measured are in measured_risks.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg.sql import SQL

from ..backfill.workers import OLD_TRANSACTION_SECONDS
from ..core import printable
from ..core.spec import Spec, Table
from ..core.sql import name, render, table
from . import measured_risks
from .facts import Facts
from .timeline import DROPPED
from .value import Json, Report, Risk


def risks(told: Report, spec: Spec | None, facts: Facts) -> tuple[Risk, ...]:
    """The risks that the run's facts show, the worst first."""
    if told.kind == "rollback":
        return tuple(_triggers_again(told, facts))
    found = [
        *_unfinished(told),
        *_indexes_missing(told),
        *_no_rollback(told, spec),
        *measured_risks.missed(told),
        *measured_risks.schema(told),
        *_dependents(facts),
        *_kept(told, facts),
        *measured_risks.left(told),
        *_refused(told),
        *_horizon(told, facts),
        *_held(told),
        *_unattended(told),
        *measured_risks.drifted(told),
        *measured_risks.old_values(told),
        *_with_rollback(told, spec),
    ]
    order = ("high", "medium", "low")
    return tuple(sorted(found, key=lambda risk: order.index(risk.impact.split(":")[0])))


def _unfinished(told: Report) -> Iterator[Risk]:
    if told.error and told.approvals:
        yield Risk(
            "The run was broken off, and the change is half-done.",
            "certain",
            "high: rows, columns or indexes may be in either state",
            "Every committed batch is in the journal. Running the phase again goes on where it "
            "stopped; the rollback takes it back.",
        )


def _indexes_missing(told: Report) -> Iterator[Risk]:
    dropped = [entry.event for entry in told.timeline].count(DROPPED)
    if not dropped:
        return
    begin = f"{dropped} {'index was' if dropped == 1 else 'indexes were'} dropped for the backfill"
    mitigation = (
        "Dropping and building are concurrent, so writers were not blocked; the check of the "
        "indexes says whether all are there and valid."
    )
    if any(gate.id == "indexes" and gate.status == "pass" for gate in told.checks):
        yield Risk(
            f"{begin} and built again after it.",
            "past",
            "low: queries on these columns had no index meanwhile, see the timeline",
            mitigation,
        )
    else:
        yield Risk(
            f"{begin}; not all of them are known to be back.",
            "certain until they are built",
            "high: queries on these columns have no index",
            f"{mitigation} Running the phase again builds them.",
        )


def _no_rollback(told: Report, spec: Spec | None) -> Iterator[Risk]:
    if spec and spec.waive_rollback and told.approvals:
        yield Risk(
            "The rollback is waived: nobody can tell later which rows the run changed.",
            "certain",
            "high: the rows come back from a backup only",
            "None in the runbook: have a backup that was restored once. The schema change can be "
            "undone by hand.",
        )


def _with_rollback(told: Report, spec: Spec | None) -> Iterator[Risk]:
    if spec and not spec.waive_rollback and told.approvals:
        yield Risk(
            "The change turns out to be unwanted later.",
            "unlikely" if told.verdict == "GO" else "likely",
            f"low: {told.backfill.rows_changed:,} rows and the schema change have to go back",
            "The journal lists each row that was changed; the rollback gives back just those, but "
            "none that somebody has changed since. It works as long as the journal is kept.",
        )


def _dependents(facts: Facts) -> Iterator[Risk]:
    plan = facts.plan.plan
    broken = [d["object"] for d in plan.dependents if not d.get("follows", True)]
    if broken:
        yield Risk(
            f"These are on a column as it was, or have its old name as text, and do not go along: "
            f"{', '.join(broken)}.",
            "certain, unless they were changed",
            "high: they fail, or find old values, when they are used",
            "The phase acknowledges them; somebody has to change each.",
        )
    if plan.triggers:
        yield Risk(
            f"Triggers fired for every row that was filled: {', '.join(plan.triggers)}.",
            "certain",
            "medium: a rollback does not take back what they did, and fires them again",
            "The phase acknowledges them.",
        )
    if plan.volatile:
        yield Risk(
            f"The phase calls volatile functions: {', '.join(plan.volatile)}.",
            "certain",
            "medium: the dry run and the checks called them as well, and may have got other values",
            "The phase acknowledges them.",
        )


def _kept(told: Report, facts: Facts) -> Iterator[Risk]:
    made = any(c.step == "convert" and c.recorded > c.taken_back for c in told.changes)
    for each in facts.plan.conversions if made else ():
        yield Risk(
            f"{each['aside']} still holds the values of type {each['from']}.",
            "certain",
            "low: it takes space, and nobody fills it",
            "The rollback needs it. Once that is not wanted any more: "
            f"{_dropping(facts.plan.plan.spec or {}, each['aside'])} That also drops its values "
            "and its indexes.",
        )


def _dropping(spec: Json, column: str) -> str:
    """What drops a column of the phase's table, in a line that can be copied."""
    on = Table(spec["schema"], spec["table"])
    statement = render(SQL("ALTER TABLE {} DROP COLUMN {}").format(table(on), name(column)))
    return f"SET lock_timeout = '{spec['lock_timeout_ms']}ms'; {printable.sql(statement)};"


def _refused(told: Report) -> Iterator[Risk]:
    rows = told.backfill.rows_refused
    if rows:
        yield Risk(
            f"The server refuses to fill {rows:,} {'row' if rows == 1 else 'rows'}.",
            "certain: measured",
            "medium: they lack their values, and queries on the filled columns do not find them",
            "They are set aside and listed with what the server says. Mend what they hold or would "
            "get, then run the phase again.",
        )


def _triggers_again(told: Report, facts: Facts) -> Iterator[Risk]:
    """The triggers that a rollback has fired."""
    triggers = facts.plan.plan.triggers
    if triggers and told.approvals:
        yield Risk(
            f"Triggers fired for every row that was given back: {', '.join(triggers)}.",
            "certain",
            "medium: nothing takes back what they did, now and when the rows were filled",
            "They are acknowledged. What they put back is counted among the rows left alone.",
        )


def _horizon(told: Report, facts: Facts) -> Iterator[Risk]:
    seen = [point.fallback for point in told.history.slices if point.fallback]
    planned = facts.plan.horizon
    oldest = told.health.get("oldest_transaction_seconds") or 0
    if seen:
        yield Risk(
            f"The backfill went over to single passes, because of {seen[0]}.",
            "seen",
            "medium: dead rows were not pruned, or had no room, so the table grew more and updates "
            "cost more",
            f"The next slice tries again; {len(seen)} points of the history show it.",
        )
    elif planned or oldest >= OLD_TRANSACTION_SECONDS:
        yield Risk(
            f"A long transaction was seen: {planned or f'one of {oldest:g} s before the run'}.",
            "seen",
            "medium: it keeps dead rows from being pruned, so the table grows more and updates "
            "cost more",
            "The backfill watches for it and goes over to single passes while it lasts; here it "
            "did not.",
        )


def _held(told: Report) -> Iterator[Risk]:
    points = told.history.slices
    held = sum(point.held_seconds or 0 for point in points)
    lag = max((point.replay_lag or 0 for point in points), default=0)
    if held or lag >= 1:
        why = next((point.held for point in points if point.held), "")
        yield Risk(
            f"The backfill was held for {held:.1f} s; the standby's lag was {lag:.1f} s at most.",
            "seen",
            "low: the run takes longer",
            f"Thresholds hold it before others suffer{f': {why}' if why else ''}.",
        )


def _unattended(told: Report) -> Iterator[Risk]:
    scopes = [a.scope for a in told.approvals if a.method == "unattended"]
    if scopes:
        yield Risk(
            f"Approved without a prompt: {', '.join(scopes)}.",
            "certain",
            "low: nobody looked at the canary before the other rows were filled"
            if "backfill" in scopes
            else "low: nobody was asked",
            "The approval named the hash of exactly this plan, and the canary's gate had to pass.",
        )
