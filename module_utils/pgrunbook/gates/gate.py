# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate as a value: what was wanted, what was measured, and whether that is enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..core.spec import Spec
from .registry import ENFORCE, Declared

PASS, FAIL, WARN = "pass", "fail", "warn"


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


def judge(
    spec: Spec | None,
    declared: Declared,
    *,
    target: str,
    measured: Any,
    passed: bool,
    evidence: Any = None,
) -> Gate:
    """The gate, a miss enforced as phase_gates has it, or else as it is declared. A gate that
    phase_gates sets to warn says so in its target."""
    word = _word(spec, declared)
    missed = FAIL if (word or declared.default) == ENFORCE else WARN
    return Gate(
        declared.id,
        declared.title,
        declared.test,
        wanted(target, enforced=word != WARN),
        measured,
        PASS if passed else missed,
        evidence,
    )


def wanted(target: str, *, enforced: bool) -> str:
    """A gate's target, which says so where the phase does not enforce it."""
    return target if enforced else f"{target} (not enforced)"


def reasons(gates: Iterable[Gate]) -> list[str]:
    """Why the verdict is NO-GO: a sentence for each gate that failed. None where it is GO."""
    return [told(gate) for gate in gates if gate.status == FAIL]


def told(gate: Gate) -> str:
    """A gate that was missed, in a sentence without its full stop."""
    return f"{gate.title}: wanted {gate.target}, measured {gate.measured}"


def _word(spec: Spec | None, declared: Declared) -> str | None:
    """What the phase says of a gate: enforce, warn, or nothing."""
    if spec is None:
        return None
    with_other = declared.enforced_with
    if with_other and spec.gates.get(with_other, ENFORCE) == ENFORCE:
        return ENFORCE
    return spec.gates.get(declared.id)
