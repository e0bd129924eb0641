# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan said, beside what came."""

from __future__ import annotations

from collections.abc import Iterator

from ..backfill.progress import about
from ..core.spec import Spec
from .in_short import counted
from .value import Foreseen, Report


def foreseen(told: Report, spec: Spec | None) -> Iterator[Foreseen]:
    """A row for each thing that was planned and could be measured; none before a run."""
    if told.kind != "run" or not told.approvals:
        return
    done = told.backfill
    planned = f"{done.rows_eligible:,} of {done.rows_total:,}"
    yield Foreseen("Rows to fill", planned, f"{done.rows_changed:,}")
    if done.after_canary_estimated_seconds is not None:
        taken = done.after_canary_seconds
        yield Foreseen(
            "Work on the rows after the canary",
            about(done.after_canary_estimated_seconds),
            "did not come to its end" if taken is None else about(taken),
        )
    if done.heap_only_expected_percent is not None:
        share = done.heap_only_percent
        yield Foreseen(
            "Heap-only updates",
            f"{done.heap_only_expected_percent:.0f} %",
            "not measured" if share is None else f"{share:.0f} %",
        )
    if spec and done.batches:
        yield Foreseen(
            "A batch",
            f"{spec.batch_target_ms:,.0f} ms aimed at",
            f"the longest {done.longest_batch_ms:,.0f} ms",
        )
    for change in told.changes:
        if change.step != "backfill":
            yield Foreseen(
                change.title,
                counted(len(change.statements) + change.omitted, "statement"),
                _recorded(change.recorded, change.taken_back),
            )
    if spec and spec.window_start:
        yield Foreseen("Start", f"not before {spec.window_start}", told.started_at)
    if spec and spec.window_end:
        yield Foreseen("End", f"before {spec.window_end}", told.finished_at)


def _recorded(recorded: int, taken_back: int) -> str:
    back = f", of which {taken_back:,} taken back" if taken_back else ""
    return f"{counted(recorded, 'change')} recorded{back}"
