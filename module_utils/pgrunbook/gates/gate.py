# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate as a value: what was wanted, what was measured, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..core.spec import Spec
from ..core.spec_checks import ENFORCE, WARN

PASS, FAIL = "pass", "fail"
NOT_ENFORCED = " (not enforced)"


@dataclass(frozen=True)
class Gate:
    """What a gate found. test is the number of the test in the report; status is "pass", "fail",
    which makes the verdict NO-GO, or "warn" where a miss is not enforced. measured and evidence
    are of JSON's types."""

    id: str
    title: str
    test: int
    target: str
    measured: Any
    status: str
    evidence: Any = None


def check(
    id: str,
    title: str,
    *,
    test: int,
    target: str,
    measured: Any,
    passed: bool,
    enforce: bool = True,
    evidence: Any = None,
) -> Gate:
    """A gate, enforced or not by default."""
    status = PASS if passed else FAIL if enforce else WARN
    return Gate(id, title, test, target, measured, status, evidence)


def settle(spec: Spec, gates: Sequence[Gate]) -> list[Gate]:
    """The gates, enforced or not as phase_gates has it: one that it sets to warn says so in its
    target, one that it does not name stays as it is. To settle them twice changes nothing.

    What the plan foresees of the coverage is enforced where the coverage is, whatever phase_gates
    says of it: the run would end NO-GO.
    """
    return [_settled(gate, _word(spec, gate.id)) for gate in gates]


def _word(spec: Spec, gate: str) -> str | None:
    if gate == "requirement" and spec.gates.get("coverage", ENFORCE) == ENFORCE:
        return ENFORCE
    return spec.gates.get(gate)


def _settled(gate: Gate, word: str | None) -> Gate:
    if word is None:
        return gate
    missed = FAIL if word == ENFORCE else WARN
    return replace(
        gate,
        target=gate.target.removesuffix(NOT_ENFORCED) + (NOT_ENFORCED if word == WARN else ""),
        status=PASS if gate.status == PASS else missed,
    )


def reasons(gates: Iterable[Gate]) -> list[str]:
    """Why the verdict is NO-GO: a sentence for each gate that failed. None where it is GO."""
    return [
        f"{gate.title}: wanted {gate.target}, measured {gate.measured}"
        for gate in gates
        if gate.status == FAIL
    ]
