# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of a run: coverage by column, rows, seconds, batches."""

from __future__ import annotations

from collections.abc import Sequence

from ..gates import Gate
from .facts import Facts, Work
from .value import BackfillFigures, Coverage


def coverage(gates: Sequence[Gate]) -> dict[str, Coverage]:
    """For each column its coverage before and after the run, where that was measured."""
    by_id = {gate.id: gate.evidence for gate in gates}
    before, after = by_id.get("baseline") or {}, by_id.get("coverage") or {}
    return {
        column: Coverage(before.get(column), after.get(column)) for column in {**before, **after}
    }


def of_run(facts: Facts, gates: Sequence[Gate]) -> BackfillFigures:
    """The figures of the run. Rows that changed in an earlier execution of it are counted too."""
    history, started_from = facts.history, facts.plan.baseline
    work = facts.backfill or facts.canary
    estimated, taken = _after_canary(facts.backfill or Work(), gates)
    return BackfillFigures(
        rows_total=started_from.counts.rows_total,
        rows_eligible=started_from.counts.rows_eligible,
        rows_changed=work.rows_done,
        rows_refused=history.rows_refused,
        refused=history.refused,
        rows_skipped=started_from.counts.rows_skipped,
        rows_estimated=bool(started_from.counts.estimated),
        seconds=work.seconds,
        rows_per_second=round(work.rows_done / work.seconds) if work.seconds else 0,
        heap_only_expected_percent=started_from.heap_only_percent,
        heap_only_percent=history.heap_only_percent,
        batches=sum(point.batches for point in history.batches),
        longest_batch_ms=max((point.max_ms or 0.0 for point in history.batches), default=0.0),
        after_canary_estimated_seconds=estimated,
        after_canary_seconds=taken,
    )


def of_rollback(work: Work | None) -> BackfillFigures:
    """The figures of giving rows back."""
    work = work or Work()
    return BackfillFigures(
        rows_changed=work.rows_changed or 0,
        rows_left_alone=work.rows_left_alone,
        left_alone=work.left_alone,
        rows_put_back=work.rows_put_back,
        rows_rewritten=work.rows_rewritten,
        columns_gone=work.columns_gone,
    )


def _after_canary(work: Work, gates: Sequence[Gate]) -> tuple[float | None, float | None]:
    """The seconds of work that the rows after the canary were estimated to take, and took; None
    where they were not estimated, or not all filled."""
    left = next((gate.evidence for gate in gates if gate.id == "estimate"), None)
    if not left:
        return None, None
    taken = round(work.seconds - left["seconds_worked"], 3) if work.done else None
    return left["seconds"], taken
