# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict of the post-run validation: what the modules measured, whether each query has kept
its speed-up, and what to do about each gate that is breached."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import ledger
from ..core.spec import Query, Spec
from ..core.values import plain, read
from . import query_gates, registry
from .gate import FAIL, Gate, judge, told, wanted
from .query_pair import QueryPair, SpeedUp, in_words

LEAST_RATIO = 0.01  # the step in which a report rounds ratios


@dataclass(frozen=True)
class Previous:
    """What the latest run measured of its queries, by their names; empty where there was none."""

    run_id: str = ""
    queries: dict[str, SpeedUp] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """What the server said of a session: whether it was READ ONLY, and the transaction id that it
    got, which is None where it wrote nothing."""

    read_only: bool = False
    xid: str | None = None


@dataclass(frozen=True)
class Result:
    """What one of the modules that measure returned: its gates, what the server said of its
    session, and the newest run of the phase, where it tells that. One that was skipped has no
    gates."""

    checks: tuple[Gate, ...] | None = None
    proof: Proof | None = None
    run: ledger.Latest | None = None


@dataclass(frozen=True)
class Verdict:
    """OK, or BREACHED with the next step for each gate that is: the gates, the ids of those that
    are breached, the verdict, and text, a line for each gate that is not. After a run that was
    taken back the text says so, and has every gate."""

    checks: tuple[Gate, ...]
    breached: tuple[str, ...]
    text: str
    verdict: str
    changed: bool = False


@dataclass(frozen=True)
class Figures:
    """What becomes metrics: when the gates were measured, in seconds since 1970, the coverage that
    each column must have, 0 to 1, and of each gate, by its id, whether it is breached, and its
    evidence."""

    phase: str
    table: str
    at: float
    coverage_min: dict[str, float]
    breached: dict[str, bool]
    evidence: dict[str, Any]


def conclude(
    spec: Spec,
    results: Sequence[Result],
    *,
    previous: Previous,
    fall_max: float,
    command: str,
) -> Verdict:
    """Every gate, from the results of the modules that measured.

    Results of a query that differ from those of the one that it replaces are no breach where rows
    differ from their source now, or lack a value still, and the gate on every row holds all the
    same: the source goes on changing, what was filled does not. Whether these are too many is what
    that gate decides.

    fall_max is how much of its previous speed-up a query may lose, in per cent; command is how the
    phase is run.
    """
    found = [gate for result in results for gate in result.checks or ()]
    measured = [_explained(spec, gate, _accounted(found)) for gate in found]
    proofs = [result.proof or Proof() for result in results if result.checks is not None]
    gates = [*measured, *_speedups(spec, measured, previous, fall_max), _only_read(spec, proofs)]
    reverted = _reverted(results)
    lines = [
        f"{gate.status.upper():4}  {gate.title}: {gate.measured}"
        for gate in gates
        if gate.status != FAIL or reverted
    ]
    return Verdict(
        checks=tuple(gates),
        breached=tuple(gate.id for gate in gates if gate.status == FAIL),
        text="\n".join([*reverted, *lines]),
        verdict=_verdict(spec, gates, command, reverted),
    )


def _reverted(results: Sequence[Result]) -> list[str]:
    """A sentence on the newest run of the phase if it was taken back, else nothing."""
    run = next((result.run for result in results if result.run), None)
    if not run or run.state != "reverted":
        return []
    return [
        f"Run {run.id} was taken back at {run.finished_at}, and none followed: what "
        "the gates miss is what it had done."
    ]


def figures(spec: Spec, gates: Sequence[Gate]) -> Figures:
    """The figures of gates that were measured just now."""
    return Figures(
        phase=spec.phase,
        table=str(spec.table),
        at=time.time(),
        coverage_min={c.name: spec.coverage_of(c.name) / 100 for c in spec.columns},
        breached={gate.id: gate.status == FAIL for gate in gates},
        evidence={gate.id: gate.evidence for gate in gates},
    )


def kept(before: SpeedUp, now: SpeedUp) -> float:
    """The share of a query's previous speed-up that is left; 1 is all of it.

    Where either measurement found every page in shared buffers, time shows processor work only, as
    in query_pair.decide(): then the better one of time and buffers counts.
    """
    in_time = now.time_ratio / max(before.time_ratio, LEAST_RATIO)
    in_buffers = now.buffer_ratio / max(before.buffer_ratio, LEAST_RATIO)
    cold = before.read_from_outside and now.read_from_outside
    return round(in_time if cold else max(in_time, in_buffers), 4)


def _accounted(gates: Sequence[Gate]) -> str:
    """Which rows are not as their source is now; nothing where all are, or too many are not."""
    compared = _named(gates, registry.COMPARISON.id)
    if compared is None or compared.status == FAIL:
        return ""
    found: Mapping[str, int] = compared.evidence
    missing = found.get("missing", 0)
    differ = found.get("compared", 0) - found.get("matched", 0) - missing
    parts = [f"{differ:,} rows differ from their source now"] if differ > 0 else []
    return " and ".join([*parts, *([f"{missing:,} rows lack a value"] if missing else [])])


def _explained(spec: Spec, gate: Gate, why: str) -> Gate:
    """The gate; that of a query whose results differ is judged by its speed-up alone where rows
    account for that, which why tells of."""
    query = _query_of(spec, gate)
    if not query or not why or gate.evidence["equal"]:
        return gate
    return query_gates.gate(spec, query, read(QueryPair, gate.evidence), why)


def _query_of(spec: Spec, gate: Gate) -> Query | None:
    """The query of the phase that a query gate is about."""
    return next((q for q in spec.queries if gate.id == f"{registry.QUERY.id}:{q.name}"), None)


def _speedups(
    spec: Spec, measured: Sequence[Gate], previous: Previous, fall_max: float
) -> list[Gate]:
    """For each query that was measured, whether it has kept its speed-up."""
    return [
        _speedup(spec, query, read(SpeedUp, gate.evidence), previous, fall_max)
        for gate in measured
        if (query := _query_of(spec, gate))
    ]


def _speedup(spec: Spec, query: Query, now: SpeedUp, previous: Previous, fall_max: float) -> Gate:
    """The gate on a speed-up; where nothing is known of it that is a warning."""
    before = previous.queries.get(query.name)
    left = kept(before, now) if before else None
    measured = "no previous measurement"
    if before:
        measured = f"{in_words(now)}; in {previous.run_id} it was {in_words(before)}"
    target = f"at most {fall_max:g} % less than the latest run measured"
    return judge(
        spec,
        registry.SPEEDUP.of_query(query.name, enforced=query.enforce and before is not None),
        target=wanted(target, enforced=query.enforce),
        measured=measured,
        passed=left is not None and left >= 1 - fall_max / 100,
        evidence={"before": plain(before), "kept": left},
    )


def _only_read(spec: Spec, proofs: Sequence[Proof]) -> Gate:
    """The gate on what the server says of each session."""
    writing = [proof for proof in proofs if not proof.read_only or proof.xid is not None]
    xids = ", ".join(str(proof.xid) for proof in writing if proof.xid is not None)
    return judge(
        spec,
        registry.READ_ONLY,
        target="transaction_read_only on, transaction id none, in every session",
        measured=f"the server says: transaction_read_only {'OFF' if writing else 'on'}, "
        f"transaction id {xids or 'none'}, in {len(proofs)} sessions",
        passed=bool(proofs) and not writing,
        evidence=plain(proofs),
    )


def _verdict(spec: Spec, gates: Sequence[Gate], command: str, reverted: Sequence[str]) -> str:
    """The verdict, with the server's word for it that the sessions only read."""
    proof = gates[-1].measured.replace("the", "The", 1)
    breached = [gate for gate in gates if gate.status == FAIL]
    if not breached:
        return f"OK  {spec.phase} on {spec.table}, {len(gates)} gates. {proof}."
    head = (
        f"BREACHED  {spec.phase} on {spec.table}, {len(breached)} of {len(gates)} gates. {proof}."
    )
    if reverted:
        again = f"Next step: none, if that was meant; else run the phase again: {command}"
        missed = f"Missed: {'; '.join(gate.title for gate in breached)}."
        return "\n".join([head, *reverted, missed, again])
    fill = _fill(gates, command)
    steps = [
        f"{told(gate)}. Next step: "
        + registry.declared(gate.id).next_step.format(command=command, fill=fill)
        for gate in breached
    ]
    return "\n".join([head, *steps])


def _fill(gates: Sequence[Gate], command: str) -> str:
    """How what is left can be filled."""
    remaining = _named(gates, registry.REMAINING.id)
    unfilled = remaining.evidence.get("unfilled", 0) if remaining else 0
    if unfilled:
        return f"run the phase again to fill {unfilled:,} rows: {command}"
    return f"no row can be filled now; complete the source, then run the phase again: {command}"


def _named(gates: Iterable[Gate], id: str) -> Gate | None:
    return next((gate for gate in gates if gate.id == id), None)
