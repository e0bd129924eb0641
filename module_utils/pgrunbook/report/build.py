# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run, of what was found before one, or of a rollback, made of facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..core.spec import Spec
from ..gates import Gate
from ..gates.gate import FAIL, PASS, WARN, reasons
from ..gates.registry import declared
from ..gates.schema_gate import schema_gate_before
from . import figures, repeat
from .changes import changes
from .checklist import readiness, rollback_tests, run_tests
from .decision import decision
from .environment import environment
from .facts import Facts
from .foreseen import foreseen
from .mismatch import mismatch
from .risks import risks
from .rollback_gates import rollback_gates
from .sentences import sentences
from .timeline import timeline
from .undo import undo
from .value import History, Report, Schemas, as_json, data_sha256

TARGETS = ("coverage_min", "accuracy_min", "speedup_min")


def build(facts: Facts, kind: str) -> Report:
    """The report of a kind: run; plan, before a run, of a dry run or of a run that was refused
    before anything was approved; or rollback."""
    spec = facts.spec
    begun = _of_rollback(facts) if kind == "rollback" else _of_run(facts, spec, kind)
    told = replace(begun, targets=_targets(spec))
    told = replace(told, changes=changes(told, facts))
    told = replace(told, undo=undo(told, spec, facts))
    told = replace(told, risks=risks(told, spec, facts), summary=sentences(told, spec))
    told = replace(told, foreseen=tuple(foreseen(told, spec)))
    told = replace(told, mismatch=mismatch(told, spec, facts))
    told = replace(told, decision=decision(told, spec, facts))
    return replace(told, sha256=data_sha256(as_json(told)))


def _targets(spec: Spec | None) -> dict[str, float]:
    """The phase's targets by their names."""
    return {name: getattr(spec, name) for name in TARGETS} if spec else {}


def _of_run(facts: Facts, spec: Spec | None, kind: str) -> Report:
    gates = _measured_since(_gates(facts, spec, kind))
    validated = kind == "plan" or facts.validation.checks
    baseline = facts.plan.baseline
    return _report(
        facts,
        kind,
        gates,
        "" if validated else "The validation did not run.",
        title=facts.phase.title if kind == "run" else f"Before the run: {facts.phase.title}",
        plan=facts.plan.text if kind == "plan" else "",
        brief=facts.plan.brief if kind == "plan" else "",
        server=facts.preflight.server,
        health=facts.preflight.health,
        tests=run_tests(gates, repeat.commands(spec, facts)),
        readiness=readiness(gates, _targets(spec)),
        coverage=figures.coverage(gates),
        backfill=figures.of_run(facts, gates),
        drift=facts.drift.differences or (),
        schema=Schemas(baseline.schema, facts.schema_after),
        queries=facts.queries_measured.pairs,
        statements=baseline.queries if facts.record.approvals else (),
    )


def _of_rollback(facts: Facts) -> Report:
    schema = Schemas(facts.history.before, facts.column.schema or {})
    gates = rollback_gates(facts.plan.counts.rows_eligible, facts.backfill, schema)
    return _report(
        facts,
        "rollback",
        gates,
        "The rollback did not come to its end." if facts.column.schema is None else "",
        title=facts.phase.title,
        server=facts.plan.plan.server,
        tests=rollback_tests(gates),
        backfill=figures.of_rollback(facts.backfill),
        schema=schema,
        statements=facts.plan.queries if facts.record.approvals else (),
    )


def _report(
    facts: Facts, kind: str, gates: Sequence[Gate], unfinished: str, **parts: Any
) -> Report:
    """A report with what that of a run and that of a rollback have in common. unfinished is what
    there is to say where no step failed and yet it did not come to its end."""
    error, approvals = facts.error or unfinished, facts.record.approvals
    why = (*_obstacles(facts, error), *reasons(gates))
    return Report(
        kind=kind,
        run_id=facts.run.id,
        verdict="NO-GO" if why else "GO",
        reasons=why,
        error=error,
        started_at=facts.started_at,
        finished_at=facts.finished_at,
        plan_hash=facts.run.plan_hash,
        chain=facts.history.chain,
        approved_by=approvals[0].approved_by if approvals else None,
        approvals=approvals,
        checks=tuple(gates),
        timeline=timeline(facts),
        history=History(facts.history.slices, facts.history.batches),
        environment=environment(facts),
        **parts,
    )


def _obstacles(facts: Facts, error: str) -> tuple[str, ...]:
    """Why it did not come to its end: one reason, or each where there are several."""
    if facts.error and len(facts.obstacles) > 1:
        return facts.obstacles
    return (error,) if error else ()


def _gates(facts: Facts, spec: Spec | None, kind: str) -> list[Gate]:
    """The gates in the order of the steps. Before a run the comparison with the models is judged by
    what the phase leaves of it."""
    schema = list(facts.schema.checks)
    if kind == "plan":
        found = facts.drift.differences
        schema = [] if found is None else [schema_gate_before(spec, found)]
    return [
        *facts.preflight.checks,
        *facts.plan.checks,
        *facts.canary_gates.checks,
        *schema,
        *facts.validation.checks,
        *facts.queries_measured.checks,
    ]


def _measured_since(gates: list[Gate]) -> list[Gate]:
    """The gates; what the plan foresaw of another one only warns where more was measured after the
    run."""
    passed = {gate.id for gate in gates if gate.status == PASS}
    return [
        replace(gate, status=WARN, measured=f"{gate.measured}; more was measured after the run")
        if declared(gate.id).enforced_with in passed and gate.status == FAIL
        else gate
        for gate in gates
    ]
