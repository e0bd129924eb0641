# SPDX-License-Identifier: GPL-3.0-or-later
"""The maintenance window: when it ends, and what may not begin after it."""

from __future__ import annotations

from datetime import UTC, datetime

from .errors import RunbookError
from .spec import Spec


def seconds_left(spec: Spec) -> float | None:
    """Seconds until the maintenance window ends, negative afterwards; None where it has no end."""
    if not spec.window_end:
        return None
    return (window_end(spec.window_end) - datetime.now(UTC)).total_seconds()


def window_closed(spec: Spec) -> bool:
    """Whether the maintenance window has an end and that end has passed."""
    left = seconds_left(spec)
    return left is not None and left <= 0


def require_open_window(spec: Spec) -> None:
    """Raise RunbookError when the maintenance window is over."""
    if window_closed(spec):
        raise RunbookError(
            f"The maintenance window ended at {spec.window_end}. Nothing was changed. "
            "Next step: set phase_window_end to the end of the next window."
        )


def window_end(text: str) -> datetime:
    """The end of the window from what phase_window_end says. Raises RunbookError where that is no
    ISO 8601 time with an offset."""
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise RunbookError(
            f"phase_window_end is {text!r}, which is no ISO 8601 time. "
            "Next step: write it as 2026-01-31T04:00:00+00:00."
        ) from None
    if end.tzinfo is None:
        raise RunbookError(
            f"phase_window_end is {text!r}, without a time zone. "
            f"Next step: write {text}+00:00, or the offset that you mean."
        )
    return end
