# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a run, for the database as it is now. Only reads."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .. import catalog, ledger
from ..backfill import page_space
from ..backfill.counting import Counts
from ..backfill.estimate import backfill_seconds
from ..backfill.sample import sample_text
from ..backfill.strategy import Strategy
from ..backfill.throttle import horizon_holder
from ..backfill.workers import OLD_TRANSACTION_SECONDS
from ..catalog import TableInfo, surroundings
from ..core.connection import Connection, proof
from ..core.locks import require_unlocked
from ..core.spec import Spec
from ..core.values import plain, read
from ..core.window import require_window_not_over
from ..ddl import columns, index_plan, indexes
from ..ddl.index_advice import IndexAdvice
from ..gates import index_trial
from ..ledger import identity
from . import plan_gates
from .estimates import Estimates, build_seconds
from .plan import IndexChange, Plan, PlanResult
from .plan_counts import Looked, look
from .requirements import Sound, require_columns, require_sound
from .steps import steps
from .strategy_choice import Approved, Chosen, choose_plan


@dataclass(frozen=True)
class _Seen:
    """What was found for a plan: both tables, the columns' present names, what does not stop the
    run, the table's rows, and the indexes that trials could build."""

    info: TableInfo
    source: TableInfo
    names: dict[str, str]
    sound: Sound
    rows: Looked
    advised: list[IndexAdvice]


def build(conn: Connection, spec: Spec, approval: str = "", *, check: bool = False) -> PlanResult:
    """The plan, made in READ ONLY transactions; check is whether it is for a dry run.

    approval is the hash of a plan that somebody approves unasked. Where that differs in the
    strategy only, which the table still allows, it is kept; a run that goes on keeps its own.
    Raises RunbookError for everything that would make the run fail later.
    """
    started = time.monotonic()
    begun = _require_free(conn, spec)
    seen = _look(conn, spec, check=check)
    info, sound, counts = seen.info, seen.sound, seen.rows.counts
    chosen = _choose(conn, spec, seen, begun, approval)
    strategy = chosen.plan.strategy
    heap_only = page_space.heap_only_percent(conn, spec, info, sound.compared_by, strategy)
    actions = index_plan.plan(conn, spec, info, strategy.deferred)
    filling = backfill_seconds(conn, spec, counts.rows_eligible)
    baseline = begun.baseline if begun else _baseline(conn, chosen.plan, counts, heap_only)
    seconds = round(time.monotonic() - started, 2)
    gates = plan_gates.measure(spec, baseline["counts"], counts, proof(conn), seconds)
    return PlanResult(
        plan=chosen.plan,
        run=_run(spec, chosen.plan, begun),
        resumes=bool(begun),
        counts=counts,
        baseline=baseline,
        conversions=sound.conversions,
        refused=sound.foreseen.refused,
        refused_pages_read=sound.foreseen.pages_read,
        unforeseen=sound.foreseen.unforeseen,
        compared_by=sound.compared_by,
        why_strategy=chosen.why,
        alternatives=chosen.alternatives,
        heap_only_percent=heap_only,
        horizon=horizon_holder(conn, [conn.info.backend_pid], OLD_TRANSACTION_SECONDS),
        index_changes=[IndexChange(a.kind, a.old, a.index.name) for a in actions],
        estimates=_estimates(conn, spec, seen, actions, filling.seconds),
        filling=filling,
        sample=seen.rows.sample,
        checks=[*gates, seen.rows.agreement],
    )


def _estimates(
    conn: Connection,
    spec: Spec,
    seen: _Seen,
    actions: list[index_plan.Action],
    filling: float | None,
) -> Estimates:
    building = build_seconds(conn, spec, seen.info, seen.names, actions)
    return Estimates(filling, building, index_trial.seconds(seen.advised))


def diffs(conn: Connection, planned: PlanResult) -> list[dict[str, str]]:
    """What the steps would change, as Ansible shows it with --diff: columns, indexes, and rows
    before and after."""
    spec, run, deferred = planned.plan.spec, planned.run, planned.plan.strategy.deferred
    changes = (
        columns.apply(conn, spec, run, dry=True),
        indexes.apply(conn, spec, index_plan.KINDS, run, deferred=deferred, dry=True),
    )
    shown = [plain(change.diff) for change in changes if change.changed]
    rows = sample_text(planned.sample)
    return [*shown, {"prepared": rows}] if rows else shown


def _look(conn: Connection, spec: Spec, *, check: bool) -> _Seen:
    info = catalog.inspect(conn, spec.table)
    require_unlocked(conn, info.oid, str(spec.table))
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    names = require_columns(conn, spec, info, source)
    sound = require_sound(conn, spec, info, names, check=check)
    rows = look(conn, spec, info, sound, check=check)
    advised = index_trial.planned(conn, spec, info)
    return _Seen(info, source, names, sound, rows, advised)


def _choose(
    conn: Connection, spec: Spec, seen: _Seen, begun: ledger.Unfinished | None, approval: str
) -> Chosen:
    bare = _without_steps(conn, spec, seen)
    before = index_trial.steps_before(index_trial.left_behind(conn, spec, seen.info))
    after = index_trial.steps(spec, seen.advised)

    def planned(strategy: Strategy) -> Plan:
        between = steps(conn, spec, seen.info, strategy)
        return replace(bare, strategy=strategy, steps=(*before, *between, *after))

    stored = ledger.approved_strategy(conn, begun.id) if begun else None
    kept = read(Strategy, stored) if stored else None
    return choose_plan(conn, spec, seen.info, seen.rows.counts, Approved(kept, approval), planned)


def new_run_id(phase: str) -> str:
    """An id that sorts by time and does not collide: phase3-20260131T040506Z-1f2e."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{phase}-{now}-{uuid.uuid4().hex[:4]}"


def _require_free(conn: Connection, spec: Spec) -> ledger.Unfinished | None:
    """The run of the phase that was broken off, if there is one. Raises RunbookError where nothing
    may begin now: the window is closed, or somebody is at work."""
    require_window_not_over(spec)
    begun = ledger.unfinished(conn, spec.phase, str(spec.table))
    ledger.require_idle(begun)
    ledger.require_no_rollback(begun)
    ledger.require_table_idle(conn, str(spec.table))
    return begun


def _without_steps(conn: Connection, spec: Spec, seen: _Seen) -> Plan:
    """The plan without what the strategy decides."""
    return Plan(
        spec=spec,
        server=identity.identity(conn),
        schema=seen.info.schema(),
        surroundings=surroundings.read(conn, spec, seen.info),
        source_columns=seen.source.types,
        dependents=seen.sound.dependents,
        triggers=seen.sound.triggers,
        volatile=seen.sound.volatile,
        strategy=Strategy("ranges"),
        steps=(),
    )


def _baseline(
    conn: Connection, plan: Plan, counts: Counts, heap_only: float | None
) -> dict[str, Any]:
    """What a new run starts from."""
    newest = ledger.latest(conn, plan.spec.phase, str(plan.spec.table))
    return {
        "counts": plain(counts),
        "schema": plan.schema,
        "queries": plan.queries,
        "heap_only_percent": heap_only,
        "newest_run": newest.id if newest else "",
    }


def _run(spec: Spec, plan: Plan, begun: ledger.Unfinished | None) -> ledger.Run:
    return ledger.Run(
        id=begun.id if begun else new_run_id(spec.phase),
        plan_hash=plan.hash,
        execution=uuid.uuid4().hex,
        server=plain(plan.server),
    )
