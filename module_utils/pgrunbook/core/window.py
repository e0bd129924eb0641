# SPDX-License-Identifier: GPL-3.0-or-later
"""The maintenance window: when it opens and ends, and what may not begin outside of it."""

from __future__ import annotations

from datetime import UTC, datetime

from .errors import RunbookError
from .spec import Spec


def seconds_left(spec: Spec) -> float | None:
    """Seconds that the maintenance window still has: until its end, from now or from its start,
    whichever is later. Negative after its end; None where it has no end."""
    if not spec.window_end:
        return None
    return (window_time("end", spec.window_end) - _from(spec)).total_seconds()


def seconds_until_open(spec: Spec) -> float:
    """Seconds until the maintenance window opens; 0 from then on, and where it has no start."""
    return (_from(spec) - datetime.now(UTC)).total_seconds() if window_ahead(spec) else 0.0


def window_closed(spec: Spec) -> bool:
    """Whether the maintenance window has an end and that end has passed."""
    left = seconds_left(spec)
    return left is not None and left <= 0


def window_ahead(spec: Spec) -> bool:
    """Whether the maintenance window has a start and that is still to come."""
    start = spec.window_start
    return bool(start) and window_time("start", start) > datetime.now(UTC)


def require_window_not_over(spec: Spec) -> None:
    """Raise RunbookError when the maintenance window is over. What only reads may begin earlier."""
    if window_closed(spec):
        raise RunbookError(
            f"The maintenance window ended at {spec.window_end}. Nothing was changed. "
            "Next step: set phase_window_end to the end of the next window."
        )


def require_open_window(spec: Spec) -> None:
    """Raise RunbookError when the maintenance window is over, or has not opened yet."""
    require_window_not_over(spec)
    if window_ahead(spec):
        raise RunbookError(not_open(spec.window_start))


def not_open(start: str) -> str:
    """Why nothing is written before the start of the maintenance window."""
    return (
        f"The maintenance window opens at {start}. Nothing was changed. Next step: run the "
        "playbook again from then on, or set phase_window_start to an earlier time and approve "
        "the new plan."
    )


def require_sound_window(spec: Spec) -> None:
    """Raise RunbookError where start or end is no time, or the end does not come after the
    start."""
    start = window_time("start", spec.window_start) if spec.window_start else None
    end = window_time("end", spec.window_end) if spec.window_end else None
    if start and end and start >= end:
        raise RunbookError(
            f"phase_window_start is {spec.window_start!r}, which is not before phase_window_end, "
            f"{spec.window_end!r}. Next step: correct the one or the other."
        )


def window_time(which: str, text: str) -> datetime:
    """The start or the end of the window from what phase_window_start or phase_window_end says.
    Raises RunbookError where that is no ISO 8601 time with an offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise RunbookError(
            f"phase_window_{which} is {text!r}, which is no ISO 8601 time. "
            "Next step: write it as 2026-01-31T04:00:00+00:00."
        ) from None
    if time.tzinfo is None:
        raise RunbookError(
            f"phase_window_{which} is {text!r}, without a time zone. "
            f"Next step: write {text}+00:00, or the offset that you mean."
        )
    return time


def _from(spec: Spec) -> datetime:
    """From when on the window can still be used."""
    now = datetime.now(UTC)
    return max(now, window_time("start", spec.window_start)) if spec.window_start else now
