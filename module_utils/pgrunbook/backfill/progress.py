# SPDX-License-Identifier: GPL-3.0-or-later
"""The backfill's progress as a line of text."""

from __future__ import annotations

from . import gentle
from .result import SliceResult

_UNITS = ((2 * 3600, 3600, "h"), (120, 60, "min"))  # from how many seconds, seconds, name


def line(result: SliceResult, *, reverting: bool) -> str:
    """One slice's result: rows done and wanted, per cent, rows/s of the slice, time to go, the
    share of heap-only updates, the slowest standby's lag, what others felt, and why it waited or
    was stopped.

    While reverting, what is done is what no longer stands, so the count falls to zero.
    """
    done, eligible = result.rows_done, result.rows_eligible
    seconds = result.slice_seconds
    rate = result.rows_changed / seconds if seconds else 0.0
    if reverting:
        left, text = done, f"{done:,} rows still to give back" if done else "all given back"
    else:
        left = max(eligible - done, 0)
        share = min(done / eligible, 1.0) if eligible else 1.0
        text = f"{done:,} of {eligible:,} rows  {share:6.1%}"
        if refused := result.rows_refused:
            left, text = max(left - refused, 0), f"{text}  {refused:,} refused"
    parts = [text, f"{rate:,.0f} rows/s", to_go(left, rate), *_condition(result)]
    if result.sweep and not reverting:
        parts.append(f"catch-up pass {result.sweep}")
    return "  ".join([*parts, *_hindrances(result)])


def about(seconds: float) -> str:
    """A duration as a person says it: about 83 s, about 12 min, about 3.5 h."""
    for least, unit, word in _UNITS:
        if seconds >= least:
            return f"about {round(seconds / unit, 1):g} {word}"
    return f"about {round(seconds, 1):g} s"


def _condition(result: SliceResult) -> list[str]:
    """What is measured besides: heap-only updates, and the standby's lag where there is one."""
    hot, lag = result.hot_percent, result.replay_lag
    shown = [f"HOT {hot:.0f} %"] if hot is not None else []
    if lag is not None:
        shown.append(f"lag {lag:.1f} s")
    return [*shown, gentle.line(result.gentle)] if result.gentle else shown


def _hindrances(result: SliceResult) -> list[str]:
    """Why the slice did less than it could, if it did."""
    shown = []
    if result.batches_lost:
        shown.append(
            f"lost by a failover, and done again: {result.rows_lost:,} rows in "
            f"{result.batches_lost:,} batches"
        )
    if result.held:
        shown.append(_waited(result))
    if result.gentle_warning:
        shown.append(result.gentle_warning)
    if result.fallback:
        shown.append(f"single passes, because of {result.fallback}")
    if result.stopped == "window":
        shown.append("stopped: the maintenance window is over")
    if result.stopped == "abort":
        shown.append(f"stopped: aborted by {result.stopped_by}")
    return shown


def _waited(result: SliceResult) -> str:
    """Why the slice was throttled or paused, and for how long."""
    why = "; ".join(result.held)
    if all(reason.startswith("paused by ") for reason in result.held):
        return f"{why} for {result.held_seconds:.1f} s"
    return f"throttled {result.held_seconds:.1f} s: {why}"


def to_go(rows: int, rate: float) -> str:
    """How long the rows take at that rate (rows a second): "done", "1:05 to go" or "? to go"."""
    if not rows:
        return "done"
    if rate <= 0:
        return "? to go"
    minutes, seconds = divmod(round(rows / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} to go" if hours else f"{minutes}:{seconds:02} to go"
