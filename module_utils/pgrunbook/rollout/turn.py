# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host may begin when its turn comes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from ..backfill.progress import about
from ..core.window import not_open, window_time
from .ended import Ended

NAMED = 5  # hosts


def why_not(
    failed: Sequence[Ended],
    *,
    failures_max: int,
    window: str,
    seconds: float | None,
    margin: float,
    opens: str = "",
    not_approved: str = "",
    now: datetime | None = None,
) -> str:
    """Why a host does not begin; empty where it does. failed are the hosts that have failed before
    it, which may be failures_max. opens and window are the start and the end of the maintenance
    window in ISO 8601, empty where it has none; seconds is about how long the host takes, None
    where nobody knows, and margin the share of it that is kept free besides; not_approved is what
    is said where nobody approved it.
    """
    if len(failed) > failures_max:
        more = "" if len(failed) <= NAMED else f" and {len(failed) - NAMED} more"
        names = ", ".join(host.host for host in failed[:NAMED]) + more
        return f"Before it {names} failed, and runbook_failures_max is {failures_max}."
    now = now or datetime.now(UTC)
    if not not_approved and opens and now < window_time("start", opens):
        return not_open(opens)
    if not_approved or not window:
        return not_approved
    left = window_time("end", window) - now
    needed = (seconds or 0.0) * (1 + margin)
    if left <= timedelta(seconds=needed):
        return (
            f"The maintenance window ends at {window}, and it takes {about(seconds or 0.0)}; "
            f"runbook_window_margin keeps {margin:.0%} free besides."
        )
    return ""
