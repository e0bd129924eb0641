# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan in a few lines, as a person reads it at the question: what changes, for how long, what
is missing meanwhile, and the way back. All statements are in text.py's."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from ..backfill.count_estimate import between, rounded
from ..backfill.progress import about
from ..backfill.strategy import naming
from ..core import printable
from ..core.window import seconds_until_open
from ..ddl.step import Step
from .plan import Approvable, IndexChange, InShort, Plan, RollbackPlan, RollbackResult
from .text import span

WIDTH = 94  # within a frame
MARGIN = 10

Line = tuple[str, str]
"""A label and what stands behind it."""

BACK = "about as long as the filling"
"""docs/benchmark.md: rows are given back at 1.0 to 1.1 times the rate at which they were filled."""

NOTHING_TO_UNDO = "Nothing to undo: the run left no change that still stands"


def plan_brief(result: InShort) -> str:
    """A run's plan in short."""
    result = printable.every(result, printable.line)
    plan = result.plan
    return _text(
        [
            *_where(plan),
            *_labelled(
                "Changes", list(_changes(result)) or ["nothing: it is as the phase wants it"]
            ),
            *_resumed(result),
            *_how(result),
            ("Takes", _duration(result)),
            *_missing(result),
            *_labelled("Names", _names(plan)),
            ("Locks", _locks(plan)),
            ("Window", _window(plan)),
            ("Back", _back(result)),
        ],
        result.run.plan_hash,
    )


def rollback_brief(result: RollbackResult) -> str:
    """A rollback's plan in short."""
    result = printable.every(result, printable.line)
    titles = (title for step in result.plan.steps for title in _taken_back(result, step))
    return _text(
        [
            *_where(result.plan),
            ("Run", str(result.run.id)),
            *_labelled("Changes", titles if result.needed else [NOTHING_TO_UNDO]),
            (
                "Takes",
                f"{about(result.seconds)}, as long as the filling" if result.seconds else BACK,
            ),
            *_labelled("Names", _names_back(result.plan) if result.needed else ()),
            *_labelled("Note", (*result.plan.journal_altered, *result.plan.notes)),
        ],
        result.run.plan_hash,
    )


def _taken_back(result: RollbackResult, step: Step) -> Iterator[str]:
    """What a step of a rollback does."""
    renamed = _renamed(result.plan, forth=False)
    if not step.statements:
        return
    if step.id == "backfill":
        yield f"give back {result.rows:,} rows"
    elif step.id == "rename" and renamed:
        yield from (f"rename column {old} back to {new}" for old, new in renamed)
    elif step.id == "index":
        yield "restore the indexes as they were"
    else:
        yield _lower(step.title)


def _names_back(plan: RollbackPlan) -> Iterator[str]:
    """What a rollback of a change of names breaks."""
    for old, new in _renamed(plan, forth=False):
        yield (
            f"from then on what names {old} fails: the application has to be on models that name "
            f"{new}"
        )


def _where(plan: Approvable) -> list[Line]:
    server = plan.server
    return [
        ("Server", f"{server.address}:{server.port}, database {server.database}"),
        ("Table", str(plan.spec.table)),
    ]


def _changes(result: InShort) -> Iterator[str]:
    """What each step changes that is needed, in the order of the steps."""
    plan = result.plan
    for step in plan.steps:
        if step.id == "backfill":
            yield from _filling(result)
        elif not step.needed:
            continue
        elif step.id == "rename":
            for old, new in _renamed(plan, forth=True):
                yield f"rename column {old} to {new}"
        elif step.id == "index_rename":
            yield from (f"rename index {i.old} to {i.name}" for i in _done(result, "rename"))
        elif step.id == "index_defer":
            yield from _dropped(result)
        elif step.id == "index_build":
            yield from _built(result)
        else:
            yield _lower(step.title)


def _done(result: InShort, kind: str) -> list[IndexChange]:
    return [change for change in result.index_changes if change.kind == kind]


def _dropped(result: InShort) -> Iterator[str]:
    if broken := _done(result, "drop_invalid"):
        yield f"drop {_named(change.old for change in broken)}, which is INVALID"
    if deferred := _done(result, "defer"):
        yield f"drop, until the rows are filled, {_named(change.name for change in deferred)}"


def _built(result: InShort) -> Iterator[str]:
    """Which indexes are built: those that were dropped before, and others."""
    built = list(dict.fromkeys(change.name for change in _done(result, "build")))
    again = {change.name for change in _done(result, "defer")} & set(built)
    others = [name for name in built if name not in again]
    if again:
        yield f"build what was dropped again{f', and {_named(others)}' if others else ''}"
    elif others:
        yield f"build {_named(others)}"


def _filling(result: InShort) -> Iterator[str]:
    counts = result.counts
    if not counts.rows_eligible:
        return
    names = ", ".join(column.name for column in result.plan.spec.columns)
    if counts.estimated is None:
        rows = f"{counts.rows_eligible:,} of {counts.rows_total:,} rows"
    else:
        rows = (
            f"about {rounded(counts.rows_eligible)} of {rounded(counts.rows_total)} rows "
            f"{between(counts.estimated.rows_eligible, rows=True)}"
        )
    yield f"fill {rows}: {names}"


def _resumed(result: InShort) -> list[Line]:
    found = ("Run", f"{result.run.id}, which goes on where it stopped")
    return [found] if result.resumes else []


def _how(result: InShort) -> list[Line]:
    """Which way the backfill takes, and why."""
    if not result.counts.rows_eligible:
        return []
    strategy = result.plan.strategy
    passes = f" in {strategy.passes} passes" if strategy.passes > 1 else ""
    why = result.why_strategy.removesuffix(naming(strategy.deferred))
    return [("How", f"{strategy.name}{passes}: {why}")]


def _duration(result: InShort) -> str:
    estimates = result.estimates
    others = estimates.index_build + estimates.index_trial
    if not result.counts.rows_eligible:
        return about(others) if others else "milliseconds"
    if estimates.backfill is None:
        building = f", and {about(others)} for the indexes" if others else ""
        return f"known once the canary's rows are filled{building}"
    return f"{span(result.filling, others)}, {result.filling.measured_on}"


def _missing(result: InShort) -> list[Line]:
    """Which indexes queries have to do without, and for how long."""
    deferred = _done(result, "defer")
    if not deferred:
        return []
    filling = result.estimates.backfill
    time = "" if filling is None else f", {about(filling + result.estimates.index_build)}"
    told = (
        "index that is dropped, until it is"
        if len(deferred) == 1
        else (f"{len(deferred)} indexes that are dropped, until they are")
    )
    return [("Missing", f"the {told} built again{time}")]


def _names(plan: Plan) -> Iterator[str]:
    """What a change of names breaks."""
    for old, new in _renamed(plan, forth=True):
        yield (
            f"from the rename on, what still names {old} fails: the application has to be on "
            f"models that name {new}"
        )
    if left := [d.object for d in plan.dependents if not d.follows]:
        yield f"not carried along, to be changed by hand: {', '.join(left)}"


def _renamed(plan: Approvable, *, forth: bool) -> list[tuple[str, str]]:
    """The names of each column before and after, as far as the plan changes them: forth, or back in
    a rollback."""
    columns = plan.schema["columns"]
    named = [(c.renamed_from, c.name) for c in plan.spec.columns if c.renamed_from]
    pairs = named if forth else [(new, old) for old, new in named]
    return [(old, new) for old, new in pairs if old in columns and new not in columns]


def _locks(plan: Plan) -> str:
    exclusive = any(step.needed and step.lock.startswith("ACCESS EXCL") for step in plan.steps)
    first = "ACCESS EXCLUSIVE on the table for milliseconds; then " if exclusive else ""
    return f"{first}reads and writes go on, and a batch holds the rows that it fills"


def _window(plan: Plan) -> str:
    start, end = plan.spec.window_start, plan.spec.window_end
    ends = f"ends at {end}" if end else "no end is set (phase_window_end)"
    if not start:
        return ends
    ahead = seconds_until_open(plan.spec)
    opens = f"opens at {start}, in {about(ahead)}; until then nothing is written"
    return f"{opens if ahead else f'opened at {start}'}; {ends}"


def _back(result: InShort) -> str:
    if result.plan.spec.waive_rollback:
        return "there is none: the phase waives its rollback"
    return f"the rollback gives back rows, indexes and names, {BACK}"


def _named(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return f"{'index' if len(found) == 1 else f'{len(found)} indexes:'} {', '.join(found)}"


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _labelled(label: str, texts: Iterable[str]) -> list[Line]:
    """The texts below each other behind one label."""
    return [(label if n == 0 else "", text) for n, text in enumerate(texts)]


def _text(lines: Iterable[Line], plan_hash: str) -> str:
    told = [
        f"{label if n == 0 else '':{MARGIN}}{part}"
        for label, text in lines
        for n, part in enumerate(
            textwrap.wrap(text, WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False)
        )
    ]
    return "\n".join([*told, "", f"Plan hash: {plan_hash}"])
