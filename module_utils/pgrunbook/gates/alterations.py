# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ledger found to be altered, in sentences."""

from __future__ import annotations

from collections.abc import Iterable

from ..ledger import evidence, journal
from ..ledger.evidence import AlteredReport, Evidence
from ..ledger.integrity import AlteredState
from ..ledger.journal import AlteredChange, Finding

_OF_JOURNAL = "The journal of run {run} is not as it was written: "
_JOURNAL = {
    journal.MISSING: _OF_JOURNAL + "{count:,} of the {of:,} rows that the events name are missing.",
    journal.MORE: _OF_JOURNAL + "it has {count:,} rows more than the {of:,} that the events name.",
    journal.DIFFERS: _OF_JOURNAL + "what {count:,} of {of:,} events recorded of it differs.",
    journal.COUNTED_AGAIN: _OF_JOURNAL
    + "{count:,} rows that were given back count as not given back.",
    journal.COUNTED_BACK: _OF_JOURNAL
    + "{count:,} rows count as given back, which no rollback gave back.",
    journal.MERGED: _OF_JOURNAL + "column merged of {count:,} batches does not follow from it.",
    journal.GONE: "The journal of run {run} is gone: of the {of:,} rows that the events name none "
    "is left, so it cannot be rolled back.",
    journal.UNHASHED: "The events of run {run} have no hash of its journal: an older version wrote "
    "them, or it has not ended its first slice. Only its row count was compared.",
    journal.FORGOTTEN: "The journal of run {run} was forgotten, with the entries of {count:,} "
    "rows: it cannot be rolled back.",
    journal.FORGETTING: "The journal of run {run} is being forgotten, or that was broken off: the "
    "entries of {count:,} of its {of:,} rows are dropped. playbooks/forget.yml -e run={run} "
    "finishes it.",
    journal.UNCOVERED: "The last {count:,} rows in the journal of run {run} are in no event yet. "
    "Whether one of them is missing cannot be known.",
}
_REPORT = {
    evidence.CHANGED: "{path} was changed since it was written.",
    evidence.EVENTS_GONE: "The ledger no longer has the {events} events that {path} saw.",
    evidence.UNRECORDED: "{path} is not the report that the ledger recorded, or was written while "
    "the database was out of reach.",
}


def of_journals(findings: Iterable[Finding | AlteredChange]) -> list[str]:
    """A sentence for each thing that was found of a journal, or of a schema change."""
    return [
        _of_change(found) if isinstance(found, AlteredChange) else _of_journal(found)
        for found in findings
    ]


def _of_journal(found: Finding) -> str:
    return _JOURNAL[found.what].format(run=found.run, count=found.count, of=found.of)


def _of_change(found: AlteredChange) -> str:
    what = f"{found.old} to {found.new}" if found.old else found.new
    said = f"A schema change of run {found.run} ({found.kind} of {what})"
    if found.told:
        return f"{said} is in the events, and not in the ledger's changes."
    return f"{said} is in the ledger's changes, and not in the events."


def _of_state(found: AlteredState) -> str:
    if found.what == "state":
        return f"Run {found.run} is {found.here} in its row, and {found.told} in the events."
    return (
        f"The verdict of run {found.run} is {found.here} in its row, and {found.told} in the "
        "events."
    )


def altered(found: Evidence) -> list[str]:
    """A sentence for each thing that somebody has changed since it was written."""
    return [
        *(f"Event {event} does not follow from the one before it." for event in found.events),
        *(
            f"The approval {scope} of run {run} is not the one in the events."
            for run, scope in found.approvals
        ),
        *(
            f"The plan that was approved for run {run} no longer has the hash {plan_hash[:8]}."
            for run, plan_hash in found.plans
        ),
        *(_of_state(state) for state in found.states),
        *(_of_report(report) for report in found.reports),
        *of_journals(found.journals.altered),
    ]


def notes(found: Evidence) -> list[str]:
    """A sentence for each journal that is gone or forgotten, and for what cannot be known of
    one."""
    journals = found.journals
    return of_journals((*journals.gone, *journals.forgotten, *journals.unknown))


def _of_report(found: AlteredReport) -> str:
    return _REPORT[found.what].format(path=found.path, events=found.events)
