# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary: what was asked, what was done, and what it means, in sentences with figures of the
run."""

from __future__ import annotations

from collections.abc import Iterator

from ..backfill.progress import about
from ..core.spec import Spec
from ..gates import times
from ..plan.text import REASONS
from .value import BackfillFigures, Report
from .words import PASSED


def sentences(told: Report, spec: Spec | None) -> tuple[str, ...]:
    """The summary of a report that has everything else."""
    if told.kind == "rollback":
        return (*_rollback(told), *_meaning(told))
    return (*_asked(told, spec), *_done(told), *_effect(told), *_meaning(told))


def _asked(told: Report, spec: Spec | None) -> Iterator[str]:
    if spec is None:
        return
    columns = ", ".join(column.name for column in spec.columns)
    rows = f" ({told.backfill.rows_total:,} rows)" if told.backfill.rows_total else ""
    yield (
        f"Asked: fill {columns} of {spec.table}{rows} from {spec.source}, so that each has a value "
        f"in at least {spec.coverage_min:g} % of the rows{_own_coverage(spec)}."
    )
    renamed = [f"{c.renamed_from} to {c.name}" for c in spec.columns if c.renamed_from]
    if renamed:
        yield f"The phase renames {', '.join(renamed)}, where that is not done yet."
    converted = [f"{c.name} from {c.converted_from} to {c.type}" for c in spec.columns if c.using]
    if converted:
        yield f"The phase converts {', '.join(converted)}, where that is not done yet."


def _own_coverage(spec: Spec) -> str:
    own = [f"{c.name} in {c.coverage_min:g} %" for c in spec.columns if c.coverage_min is not None]
    return f", but {', '.join(own)}" if own else ""


def _done(told: Report) -> Iterator[str]:
    done = told.backfill
    if not told.approvals:
        yield "Done: nothing was approved, and nothing was changed."
        if told.kind == "plan" and done.rows_total:
            about = "about " if done.rows_estimated else ""
            yield f"Planned: {about}{done.rows_eligible:,} of {done.rows_total:,} rows to fill."
        return
    yield from _filled(done)
    yield from _expected(done)
    yield from _not_filled(done)
    recorded = [
        f"{change.title.lower()} ({change.recorded})"
        for change in told.changes
        if change.step != "backfill" and change.recorded > change.taken_back
    ]
    if recorded:
        yield f"Changes of the schema that were recorded: {', '.join(recorded)}."


def _filled(done: BackfillFigures) -> Iterator[str]:
    batches = (
        f", in {done.batches:,} batches of which the longest took {done.longest_batch_ms:,.0f} ms"
        if done.batches
        else ""
    )
    yield (
        f"Done: {done.rows_changed:,} of {done.rows_eligible:,} rows that the source could fill "
        f"were filled in {done.seconds:,.1f} s of work ({done.rows_per_second:,} rows/s){batches}."
    )


def _expected(done: BackfillFigures) -> Iterator[str]:
    """What was foreseen, beside what came."""
    expected, measured = done.heap_only_expected_percent, done.heap_only_percent
    if expected is not None and measured is not None:
        yield (
            f"About {expected:.0f} % of the updates were expected to be heap-only; of those after "
            f"the canary {measured:.0f} % were."
        )
    if done.after_canary_estimated_seconds and done.after_canary_seconds is not None:
        yield (
            "When all other rows were approved, the rate so far promised "
            f"{about(done.after_canary_estimated_seconds)} for them; they took "
            f"{done.after_canary_seconds:,.1f} s of work, the VACUUM included."
        )


def _not_filled(done: BackfillFigures) -> Iterator[str]:
    if done.rows_refused:
        yield f"Set aside, because the server refuses to fill them: {done.rows_refused:,} rows."
    skipped = [
        f"{rows:,} {REASONS.get(reason, reason)}"
        for reason, rows in done.rows_skipped.items()
        if rows
    ]
    if skipped:
        yield f"Of the others, {'; '.join(skipped)}."


def _effect(told: Report) -> Iterator[str]:
    shares = [
        f"{column} from {share.before:g} to {share.after:g} %"
        for column, share in told.coverage.items()
        if share.before is not None and share.after is not None
    ]
    if shares:
        yield f"Coverage went for {', for '.join(shares)}."
    for gate in told.checks:
        if gate.id == "comparison":
            yield f"Compared with the source: {gate.measured}."
    for pair in told.queries:
        yield (
            f'"{pair.name}" is {times(pair.time_ratio, "faster", "slower")} than the query that it '
            f"replaces, and reads {times(pair.buffer_ratio, 'fewer', 'more')} buffers."
        )


def _meaning(told: Report) -> Iterator[str]:
    missed = [gate.title for gate in told.checks if gate.status == "warn"]
    if told.verdict == "GO":
        yield f"GO: {PASSED[told.kind]}"
    else:
        yield f"NO-GO: {'; '.join(told.reasons)}"
    if missed:
        yield f"Missed, but not enforced by the phase: {'; '.join(missed)}."
    if told.verdict != "GO" and told.backfill.rows_changed and told.kind == "run":
        yield (
            f"What was changed stays in place until it is undone, {told.backfill.rows_changed:,} "
            "rows among it."
        )


def _rollback(told: Report) -> Iterator[str]:
    done = told.backfill
    yield (
        f"Asked: undo run {told.run_id}. Done: {done.rows_changed:,} rows were given back; "
        f"{done.rows_left_alone:,} were left alone, because somebody has changed or deleted "
        "them since, or a trigger has put a value back."
    )
