# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of a run: every step with its SQL, its lock and its undo, and the hash that an approval
names."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from .. import catalog, ledger
from ..backfill import backfill, constraints, eligibility, page_space
from ..backfill.equality import Rules, rules
from ..backfill.estimate import backfill_seconds
from ..backfill.strategy import Other, Strategy, choose, kept, others, words
from ..backfill.throttle import horizon_holder
from ..backfill.workers import OLD_TRANSACTION_SECONDS
from ..catalog import TableInfo, conversion, surroundings
from ..catalog.dependents import Dependent
from ..core.connection import Connection, proof
from ..core.errors import require_none
from ..core.locks import require_unlocked
from ..core.obstacles import Obstacles
from ..core.spec import Column, Spec
from ..core.values import plain
from ..core.window import require_open_window
from ..ddl import column_dependents, convert, index_checks, index_plan, indexes, rename
from ..ddl.build_time import index_seconds
from ..ddl.step import Step, alike
from ..gates import Gate, index_trial, query_gates, registry
from ..gates.data_gates import coverage_target
from ..gates.gate import judge
from ..ledger import identity
from . import rehearsal
from .text import REASONS, plan_text


def build(conn: Connection, spec: Spec, approval: str = "") -> dict[str, Any]:
    """The plan for the database as it is now, in a READ ONLY transaction.

    approval is the hash of a plan that somebody approves without a question. Where the only
    difference to that one is the strategy, and the table still allows the other one, it is kept; a
    run that goes on keeps the one that it was approved with.

    Returns plan (what the hash covers), plan_hash, run (id, plan_hash, execution, server), needed,
    counts, refused and unforeseen (as constraints.Foreseen has them), estimates (seconds by step,
    null where nothing was measured), measured_rate (which run the backfill's is from), a sample of
    100 rows before and after, checks and text. Raises RunbookError for everything that would make
    the run fail later.
    """
    started = time.monotonic()
    require_open_window(spec)
    unfinished = ledger.unfinished(conn, spec.phase, str(spec.table))
    ledger.require_idle(unfinished)
    ledger.require_no_rollback(unfinished)
    ledger.require_table_idle(conn, str(spec.table))
    info = catalog.inspect(conn, spec.table)
    require_unlocked(conn, info.oid, str(spec.table))
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    names = _require_columns(conn, spec, info, source)
    found = _require_sound(conn, spec, info, names)
    counts = eligibility.count(conn, spec, info)
    tried = index_trial.planned(conn, spec, info)
    left = index_trial.left_behind(conn, spec, info)
    fixed = {
        "spec": spec.as_dict(),
        "server": plain(identity.identity(conn)),
        "schema": info.schema(),
        "surroundings": surroundings.read(conn, spec, info),
        "source_columns": {n: c.type for n, c in source.columns.items()},
        "dependents": plain(found.dependents),
        "triggers": found.triggers,
        "volatile": found.volatile,
    }

    def with_strategy(of: Strategy) -> dict[str, Any]:
        steps = [
            *index_trial.steps_before(left),
            *_steps(conn, spec, info, of),
            *index_trial.steps(spec, tried),
        ]
        return {
            **fixed,
            "strategy": of.as_dict(),
            "steps": [step.as_json() for step in steps],
        }

    began = ledger.approved_strategy(conn, unfinished.id) if unfinished else None
    chosen = _choose(conn, spec, info, counts, began, approval, with_strategy)
    strategy, why, plan = chosen.strategy, chosen.why, chosen.plan
    steps = plan["steps"]
    backfill_estimate, measured_rate = backfill_seconds(conn, spec, counts["rows_eligible"])
    build_estimate = _build_seconds(conn, spec, info, names, strategy)
    hashed = ledger.plan_hash(plan)
    proved = proof(conn)
    seconds = round(time.monotonic() - started, 2)
    result: dict[str, Any] = {
        "changed": False,
        "plan": plan,
        "plan_hash": hashed,
        "run": {
            "id": unfinished.id if unfinished else new_run_id(spec.phase),
            "plan_hash": hashed,
            "execution": uuid.uuid4().hex,
            "server": plan["server"],
        },
        "resumes": bool(unfinished),
        "needed": bool(unfinished or counts["rows_eligible"] or any(s["needed"] for s in steps)),
        "counts": counts,
        "conversions": plain(found.conversions),
        "refused": found.foreseen.refused,
        "unforeseen": found.foreseen.unforeseen,
        "compared_by": {c: asdict(rule) for c, rule in found.compared_by.items()},
        "why_strategy": why,
        "alternatives": chosen.alternatives,
        "heap_only_percent": page_space.heap_only_percent(
            conn, spec, info, found.compared_by, strategy
        ),
        "horizon": horizon_holder(conn, [conn.info.backend_pid], OLD_TRANSACTION_SECONDS),
        "estimates": {
            "rename": 0.0,
            "convert": 0.0,
            "index_rename": 0.0,
            "index_defer": 0.0,
            "backfill": backfill_estimate,
            "index_build": build_estimate,
            **index_trial.estimates(tried),
        },
        "measured_rate": measured_rate,
        "sample": eligibility.sample(conn, spec, info, found.compared_by, 100),
        "schema": info.schema(),
        "queries": [q for step in steps if step["needed"] for q in step["statements"]],
    }
    baseline = (
        unfinished.baseline
        if unfinished
        else {key: result[key] for key in ("counts", "schema", "queries", "heap_only_percent")}
    )
    result["baseline"] = baseline
    result["checks"] = _checks(spec, baseline["counts"], counts, proved, seconds)
    return {**result, "text": plan_text(result)}


def stored_spec(conn: Connection, run_id: str) -> Spec:
    """The specification that a run was approved with."""
    return ledger.approved_spec(conn, run_id)


def new_run_id(phase: str) -> str:
    """An id that sorts by time and does not collide: phase3-20260131T040506Z-1f2e."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{phase}-{now}-{uuid.uuid4().hex[:4]}"


@dataclass(frozen=True)
class _Sound:
    """What the checks of a plan found and let pass, for the plan to show: conversions and
    dependents as conversion and rename have them, triggers and volatile functions by name, the rows
    that the server would refuse, and how values are compared."""

    conversions: list[convert.Moving]
    dependents: list[Dependent]
    triggers: list[str]
    volatile: list[str]
    foreseen: constraints.Foreseen
    compared_by: Rules


def _require_sound(conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str]) -> _Sound:
    """Raises RunbookError with everything that would make the run fail later."""
    obstacles = Obstacles(conn)
    obstacles.checked(index_checks.require_buildable, conn, spec, info)
    called = obstacles.checked(eligibility.require_sound_expressions, conn, spec, info)
    asked = obstacles.checked(query_gates.require_sound_queries, conn, spec, info)
    converted = foreseen = None
    by: Rules = {}
    if called is not None:  # else what must not run would
        by = rules(conn, spec, info)
        obstacles.checked(eligibility.require_unique_source, conn, spec)
        obstacles.checked(rehearsal.require_run, conn, spec, info, by)
        fates = eligibility.fates(conn, spec, info, by)
        converted = obstacles.checked(convert.require_safe, conn, spec, info, fates)
        foreseen = obstacles.checked(constraints.require_fillable, conn, spec, info)
    dependents = obstacles.checked(column_dependents.require_acknowledged, conn, spec, info)
    triggers = obstacles.checked(_require_triggers, conn, spec, info, names)
    obstacles.require_none()
    volatile = sorted({*(called or []), *(asked or [])})
    return _Sound(
        converted or [],
        dependents or [],
        triggers or [],
        volatile,
        foreseen or constraints.Foreseen(),
        by,
    )


def _require_columns(
    conn: Connection, spec: Spec, info: TableInfo, source: TableInfo
) -> dict[str, str]:
    """The columns' present names. Raises RunbookError where one is missing, or cannot be filled as
    planned."""
    obstacles = Obstacles(conn)
    needed = [*spec.key, *spec.source_key]
    obstacles.checked(catalog.require_columns, spec.table, info, needed)
    obstacles.checked(catalog.require_columns, spec.source, source, spec.source_key.values())
    names = obstacles.checked(catalog.present_names, spec, info) or {}
    obstacles.require_none()
    obstacles.checked(eligibility.require_joinable, conn, spec, info, source)
    obstacles.checked(require_none, _not_fillable(conn, spec, info, names))
    obstacles.require_none()
    for column in spec.columns:
        obstacles.checked(_require_type, conn, spec, info, names, column)
    obstacles.require_none()
    return names


def _not_fillable(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str]
) -> Iterator[str]:
    """Why the table's columns cannot be filled in batches and given back."""
    if catalog.has_children(conn, info):
        yield (
            f"Other tables inherit from {spec.table}, and a batch could not tell their rows from "
            "its own. Next step: make it a partitioned table, or fill each table as a phase."
        )
    moving = catalog.partition_keys(conn, info) & set(names.values())
    if moving:
        yield (
            f"{spec.table} is partitioned by {', '.join(sorted(moving))}, and filling that would "
            "move rows. Next step: take the column out of phase_columns."
        )
    for column in spec.columns:
        if info.columns[names[column.name]].generated:
            yield (
                f"Column {column.name!r} of {spec.table} is generated and cannot be filled. "
                "Next step: take it out of phase_columns."
            )
    if spec.key and not any(
        i.unique and i.valid and i.columns == spec.key and i.plain for i in info.indexes.values()
    ):
        yield (
            f"{spec.table} has no unique index on ({', '.join(spec.key)}), so the journal could "
            "not tell its rows apart. Next step: set phase_key to the primary key's columns."
        )
    for column_name in spec.key:
        if not info.columns[column_name].not_null:
            yield (
                f"Key column {column_name!r} of {spec.table} may be NULL, and rows without a key "
                "could not be given back. Next step: set phase_key to the primary key's columns."
            )


def _require_type(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str], column: Column
) -> None:
    if any(each.column == column for each in conversion.pending(spec, info)):
        catalog.require_known_type(conn, column)
    else:
        present = names[column.name]
        catalog.require_type(conn, spec.table, present, info.columns[present], column.type)


def _require_triggers(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str]
) -> list[str]:
    """The triggers that the backfill would fire. Raises RunbookError with those of them that are
    not acknowledged."""
    found = catalog.update_triggers(conn, info, names.values())
    require_none(
        f"Trigger {trigger!r} of {spec.table} would fire for every row that is filled, and "
        "a rollback does not take back what it does. Next step: find out what it does; if "
        "that is right for a backfill, list its name in phase_acknowledged."
        for trigger in found
        if trigger not in spec.acknowledged
    )
    return found


@dataclass(frozen=True)
class _Chosen:
    """The strategy of the plan, why it is that one, and the plan; alternatives are the hashes that
    the same plan has with other strategies, each with what is said where that one was approved."""

    strategy: Strategy
    why: str
    plan: dict[str, Any]
    alternatives: list[dict[str, str]]


def _choose(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    counts: dict[str, Any],
    began: dict[str, Any] | None,
    approval: str,
    with_strategy: Callable[[Strategy], dict[str, Any]],
) -> _Chosen:
    chosen, why = choose(conn, spec, info, counts)
    found = [Other(chosen), *others(conn, spec, info, counts, chosen)]
    plans = {other.strategy: with_strategy(other.strategy) for other in found}
    hashes = {strategy: ledger.plan_hash(plan) for strategy, plan in plans.items()}
    taken = kept(began, found) if began else None
    taken = taken or chosen
    taken = next((o.strategy for o in found if _approves(o, hashes, approval)), taken)
    if taken != chosen:
        why = f"as approved; chosen anew it would be {words(chosen)}: {why}"
    told = f"The strategy has changed since: then {{}}, now {words(taken)}, because {why}."
    alternatives = [
        {
            "plan_hash": hashes[other.strategy],
            "told": told.format(words(other.strategy))
            + (f" The other one is not possible any more: {other.why_not}." * bool(other.why_not)),
        }
        for other in found
        if other.strategy != taken
    ]
    return _Chosen(taken, why, plans[taken], alternatives)


def _approves(other: Other, hashes: dict[Strategy, str], approval: str) -> bool:
    return not other.why_not and hashes[other.strategy] == approval


def _build_seconds(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str], strategy: Strategy
) -> float:
    """About how many seconds the index builds take, one after the other, waits for locks apart."""
    seconds = 0.0
    for action in index_plan.plan(conn, spec, info, strategy.deferred):
        if action.kind != "build":
            continue
        by, include = (
            [names.get(c, c) for c in part] for part in (action.index.columns, action.index.include)
        )
        whole = index_seconds(conn, spec.table, info.pages, by, include)
        pages = sum(part.pages for part in action.parts) if action.parts else info.pages
        seconds += whole * pages / max(info.pages, 1)
    return round(seconds, 1)


def _steps(conn: Connection, spec: Spec, info: TableInfo, strategy: Strategy) -> list[Step]:
    actions = index_plan.plan(conn, spec, info, strategy.deferred)
    return [
        rename.step(spec, info),
        convert.step(spec, info),
        *indexes.steps_before(actions),
        Step(
            "backfill",
            "Fill the columns",
            statements=tuple(backfill.statements(spec, info, strategy)),
            undo=("playbooks/rollback.yml gives back just the rows in the journal",),
            lock=backfill.LOCK,
            needed=False,
            alike=alike([len(info.leaves), 1]),
        ),
        indexes.step_after(actions, info),
    ]


def _checks(
    spec: Spec,
    baseline: dict[str, Any],
    counts: dict[str, Any],
    proved: dict[str, Any],
    seconds: float,
) -> list[Gate]:
    """The gates that the plan can judge. baseline has the counts that the run started from, counts
    those of now, which decide what is to be had."""
    before = {column: share["before"] for column, share in baseline["coverage"].items()}
    after = {column: share["after"] for column, share in counts["coverage"].items()}
    short = [c for c, share in after.items() if share < spec.coverage_of(c)]
    return [
        judge(
            spec,
            registry.BASELINE,
            target="measured",
            measured=", ".join(f"{column} {share} %" for column, share in before.items()),
            passed=True,
            evidence=before,
        ),
        judge(
            spec,
            registry.REQUIREMENT,
            target=f"{coverage_target(spec)} afterwards",
            measured="; ".join(
                [
                    f"{baseline['rows_eligible']:,} of {baseline['rows_total']:,} rows",
                    ", ".join(f"{column} {share} %" for column, share in after.items()),
                    *(_short(column, counts["coverage"][column]) for column in short),
                ]
            ),
            passed=not short,
            evidence=baseline,
        ),
        judge(
            spec,
            registry.DRY_RUN,
            target="READ ONLY, no transaction id assigned",
            measured=f"transaction_read_only {'on' if proved['read_only'] else 'OFF'}, "
            f"transaction id {proved['xid'] or 'none'}, {seconds} s",
            passed=proved["read_only"] and proved["xid"] is None,
            evidence={**proved, "seconds": seconds},
        ),
    ]


def _short(column: str, share: dict[str, Any]) -> str:
    """Why a column does not get enough."""
    why = [f"{rows:,} rows {REASONS[reason]}" for reason, rows in share["lacking"].items() if rows]
    return f"{column} can get no more than {share['after']} %, because {', '.join(why)}"
