# SPDX-License-Identifier: GPL-3.0-or-later
"""An event as it is told, and in a sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ..core import printable
from ..core.version import VERSION

NOTIFIED = (
    "plan_refused",
    "waiting_for_approval",
    "started",
    "throttled",
    "stopped",
    "failed",
    "finished",
    "rolled_back",
)
"""The kinds that hooks are told."""


@dataclass(frozen=True)
class Happened:
    """An event: when, in ISO 8601; of which run, host and phase, empty where there is none yet; its
    kind and details; whether the ledger has it or only the controller; whether it is a dry run's;
    and the version of pgrunbook."""

    time: str
    run: str
    host: str
    phase: str
    kind: str
    detail: Mapping[str, Any]
    source: str
    dry_run: bool
    version: str = VERSION

    def line(self) -> str:
        """As JSON in one line."""
        return json.dumps(asdict(self))

    def body(self) -> str:
        """The same as JSON for a hook, with a sentence for people under text."""
        return json.dumps({**asdict(self), "text": self.text()})

    def text(self) -> str:
        """The event in a sentence for people."""
        of = " ".join(part for part in (self.phase, self.run and f"run {self.run}") if part)
        where = ", ".join(part for part in (self.host, of) if part)
        return printable.line(f"{where}: {_said(self.kind, self.detail)}")


def now() -> str:
    """The time now, in UTC."""
    return datetime.now(UTC).isoformat()


def _said(kind: str, detail: Mapping[str, Any]) -> str:
    why = str(detail.get("why", ""))
    if kind == "waiting_for_approval":
        return f"waits for an approval ({detail['scope']}): {detail['title']}"
    if kind == "throttled":
        return f"has been throttled for {detail['seconds']:.0f} s: {'; '.join(detail['reasons'])}"
    if kind == "finished":
        reasons = "; ".join(detail["reasons"])
        return f"finished, {detail['verdict'] or 'no verdict'}{f': {reasons}' if reasons else ''}"
    if kind == "started":
        return f"started, {detail['scope']} approved by {detail['by']}"
    return f"{kind.replace('_', ' ')}{f': {why}' if why else ''}"
