# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened, and when."""

from __future__ import annotations

from datetime import datetime

from ..ledger import Event
from .facts import Facts
from .value import Json, TimelineEntry

EVENTS = {
    "approved": "Approved",
    "migrated": "Ledger brought to a newer version",
    "rename": "Column renamed",
    "rename_undone": "Column rename taken back",
    "rename_left": "Column rename not taken back: the column is there no more",
    "convert": "Column put aside for one of the right type",
    "convert_undone": "Column that was put aside taken back",
    "index_rename": "Index renamed",
    "index_rename_undone": "Index rename taken back",
    "index_defer": "Index to be dropped for the backfill",
    "index_defer_undone": "Dropped index restored",
    "index_clear": "Index to be dropped for the rollback",
    "index_build": "Index build begun",
    "index_build_undone": "Built index taken back",
    "index_trial": "Trial of an index begun",
    "index_trial_undone": "Index of a trial dropped",
    "index_kept": "Index of a trial kept",
    "index_kept_undone": "Kept index taken back",
    "pause": "Paused",
    "resume": "Resumed",
    "abort": "Aborted",
    "throttle": "Rate limited",
    "failover": "Failover",
    "failed": "Broken off",
    "finished": "Verdict recorded",
    "reverted": "Rollback recorded",
    "forget_approved": "Forgetting the journal approved",
    "forgetting": "Part of the journal dropped",
    "forgotten": "Journal forgotten",
}
"""The kinds of events of the ledger, for people."""

DROPPED = EVENTS["index_defer"]


def timeline(facts: Facts) -> tuple[TimelineEntry, ...]:
    """What happened, in order."""
    batches = facts.history.batches
    filled = [
        TimelineEntry(batches[at].at, event, "")
        for at, event in ((0, "First batches committed"), (-1, "Last batches committed"))
        if batches
    ]
    entries = [
        TimelineEntry(facts.started_at, "This execution began", ""),
        *(_entry(event) for event in facts.history.events),
        *filled,
        TimelineEntry(facts.finished_at, "Report written", ""),
    ]
    return tuple(sorted(entries, key=_time))


def _entry(event: Event) -> TimelineEntry:
    kind = EVENTS.get(event.kind, event.kind)
    return TimelineEntry(event.at, kind, _text(event.kind, event.detail))


def _text(kind: str, detail: Json) -> str:
    if kind in ("approved", "forget_approved"):
        claimed = " (claimed)" if detail.get("claimed") else ""
        how = f"{detail.get('by')}{claimed} from {detail.get('origin')}, {detail.get('method')}"
        return f"{detail.get('scope', 'forget')} {str(detail.get('plan_hash'))[:8]} by {how}"
    if kind in ("forgetting", "forgotten"):
        return f"{detail.get('rows'):,} rows, {detail.get('bytes'):,} bytes, by {detail.get('by')}"
    if kind == "failover":
        lost = f"{detail.get('rows_lost'):,} rows in {detail.get('batches_lost'):,} batches"
        return f"{detail.get('was')} → {detail.get('now')}; lost and done again: {lost}"
    if detail.get("old") and detail.get("new"):
        return f"{detail['old']} → {detail['new']}"
    return ", ".join(
        f"{key} {value}" if key not in ("detail", "new", "verdict") else str(value)
        for key, value in detail.items()
        if value not in (None, "", 0) and key != "report_sha256"
    )


def _time(entry: TimelineEntry) -> float:
    try:
        return datetime.fromisoformat(entry.at).timestamp()
    except ValueError:
        return 0.0
