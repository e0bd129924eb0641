# SPDX-License-Identifier: GPL-3.0-or-later
"""What a slice of the backfill, or of its rollback, returns: the values of the module's result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..ledger import RefusedRow
from .failover import Lost


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured in a slice. held has the reasons why the workers were throttled or paused,
    throttle the rate that somebody set, and throttled_seconds for how long they rested, to keep
    below it or because of what others felt. batch_ms has the number of batches and how long they
    took; gentle is as Gentle.measured() has it, and gentle_warning as Gentle.warning."""

    slice_seconds: float = 0.0
    hot_percent: float | None = None
    replay_lag: float | None = None
    held: tuple[str, ...] = ()
    held_seconds: float = 0.0
    throttle: int = 0
    throttled_seconds: float = 0.0
    fallback: str = ""
    batch_ms: dict[str, float] = field(default_factory=dict)
    gentle: dict[str, float] = field(default_factory=dict)
    gentle_warning: str = ""
    stopped: str = ""
    stopped_by: str = ""


@dataclass(frozen=True, kw_only=True)
class GivenBack:
    """What a rollback tells of the rows of all its slices so far: those that it left alone, as the
    journal has the first of them, those of them that a trigger had put back, those that somebody
    had rewritten, and the columns that are gone."""

    rows_left_alone: int = 0
    left_alone: tuple[Any, ...] = ()
    rows_put_back: int = 0
    rows_rewritten: int = 0
    columns_gone: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SliceResult(Measured, GivenBack, Lost):
    """What a call of the module did, and how far the run is. sweep is the pass over the table: 0 is
    the first one, others are catch-up passes. diff has rows before and after, of a dry run;
    progress is the line that a person watches, and lines has those of all slices of the call."""

    done: bool
    rows_changed: int
    rows_done: int
    rows_eligible: int
    sweep: int
    seconds: float
    batches_done: int = 0
    rows_refused: int = 0
    refused: tuple[RefusedRow, ...] = ()
    queries: tuple[str, ...] = ()
    diff: dict[str, str] = field(default_factory=lambda: {"prepared": ""})
    changed: bool = False
    progress: str = ""
    lines: tuple[str, ...] = ()
