# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task tells of: the ledger's events, and what only the controller knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import log
from .delivery import Deliveries
from .happened import NOTIFIED, Happened, now
from .hooks import Hook

BEGUN = ("plan", "rollback")  # the scopes of approvals with which a run or a rollback starts


@dataclass(frozen=True)
class About:
    """What a task is about: host, phase and run, empty where there is none, and whether it is a dry
    run's."""

    host: str
    phase: str
    run: str
    dry: bool


class Teller:
    """Writes events to the log and tells the hooks, of which a dry run tells none."""

    def __init__(self, path: str, hooks: Iterable[Hook], about: About) -> None:
        self._path, self._hooks, self._about = path, tuple(hooks), about
        self._deliveries = Deliveries()
        self._warnings: list[str] = []
        self._throttled = 0.0
        self._told_of_it: set[int] = set()

    def ledger(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Tell of events that a module appended to the ledger: each with at, run, kind, detail and
        version."""
        for each in events:
            detail = each["detail"]
            self._log(self._event(each["kind"], detail, "ledger", each["at"], each["run"]))
            if each["kind"] == "approved" and detail.get("scope") in BEGUN:
                self.happened("started", {key: detail[key] for key in ("scope", "plan_hash", "by")})
            if each["kind"] == "progress":
                self._progress(detail)

    def happened(self, kind: str, detail: Mapping[str, Any]) -> None:
        """Tell of an event that the ledger does not have."""
        event = self._event(kind, detail, "controller")
        self._log(event)
        for hook in self._hooks:
            if kind != "throttled":
                self._notify(hook, event)

    def end(self) -> list[str]:
        """Wait for what is under way; the warnings."""
        return list(dict.fromkeys([*self._warnings, *self._deliveries.end()]))

    def _progress(self, detail: Mapping[str, Any]) -> None:
        """Add up for how long the backfill has been throttled, slice after slice. A pause that a
        person asked for is none."""
        seconds = detail["slice_seconds"]
        reasons = [each for each in detail["held"] if not each.startswith("paused by ")]
        if detail["held_seconds"] < seconds / 2 or not reasons:
            self._throttled, self._told_of_it = 0.0, set()
            return
        self._throttled += seconds
        due = [
            hook
            for hook in self._hooks
            if self._throttled >= hook.throttled_after and hook.number not in self._told_of_it
        ]
        if due:
            told = {"seconds": round(self._throttled, 1), "reasons": reasons}
            event = self._event("throttled", told, "controller")
            if not self._told_of_it:
                self._log(event)
            for hook in due:
                self._notify(hook, event)
                self._told_of_it.add(hook.number)

    def _notify(self, hook: Hook, event: Happened) -> None:
        if event.kind in NOTIFIED and event.kind in hook.events and not event.dry_run:
            self._deliveries.begin(hook, event)

    def _log(self, event: Happened) -> None:
        if self._path and (warning := log.append(self._path, event)):
            self._warnings.append(warning)

    def _event(
        self, kind: str, detail: Mapping[str, Any], source: str, time: str = "", run: str = ""
    ) -> Happened:
        about = self._about
        return Happened(
            time=time or now(),
            run=run or about.run,
            host=about.host,
            phase=about.phase,
            kind=kind,
            detail=detail,
            source=source,
            dry_run=about.dry,
        )
