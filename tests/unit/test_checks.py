# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: status, verdict, and percentages that never flatter."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill.eligibility import percentage
from ansible.module_utils.pgrunbook.core.spec_checks import GATES
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.gates.gate import Gate, check, reasons, settle
from tests.unit.conftest import parsed

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("passed", "enforce", "status"),
    [
        (True, True, "pass"),
        (True, False, "pass"),
        (False, True, "fail"),
        (False, False, "warn"),
    ],
)
def test_status(passed: bool, enforce: bool, status: str) -> None:
    found = check("id", "A", test=3, target="1", measured=2, passed=passed, enforce=enforce)
    assert plain(found) == {
        "id": "id",
        "title": "A",
        "test": 3,
        "target": "1",
        "measured": 2,
        "status": status,
        "evidence": None,
    }


def test_a_gate_is_enforced_unless_it_is_said_not_to_be() -> None:
    found = check("id", "A", test=3, target="1", measured=2, passed=False)
    assert found.status == "fail"


@pytest.mark.parametrize("enforce", [True, False])
@pytest.mark.parametrize(
    ("gates", "passed", "status", "target"),
    [
        ({"id": "enforce"}, False, "fail", "1"),
        ({"id": "warn"}, False, "warn", "1 (not enforced)"),
        ({"id": "enforce"}, True, "pass", "1"),
        ({"id": "warn"}, True, "pass", "1 (not enforced)"),
    ],
)
def test_a_gate_is_settled_as_the_phase_has_it_whatever_its_default(
    enforce: bool,
    gates: dict[str, str],
    passed: bool,
    status: str,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ansible.module_utils.pgrunbook.core.spec_checks.GATES", ("id",))
    spec = parsed(gates=gates)
    gate = check("id", "A", test=3, target="1", measured=2, passed=passed, enforce=enforce)
    (settled,) = settle(spec, [gate])
    assert settled == replace(gate, status=status, target=target)
    assert settle(spec, [settled]) == [settled], "twice is as once"
    (turned,) = settle(parsed(gates={"id": "enforce"}), [settled])
    assert turned.target == "1", "an enforced gate does not say that it is not"


def test_a_gate_that_the_phase_does_not_name_stays_as_it_is() -> None:
    gates = [
        check("coverage", "A", test=3, target="1", measured=2, passed=False),
        check("query:q", "B", test=5, target="1", measured=2, passed=False, enforce=False),
    ]
    assert settle(parsed(gates={"orphans": "enforce", "schema": "warn"}), gates) == gates


def calls_of_check() -> Iterator[tuple[str, str]]:
    """The ids with which the program calls check(), as far as they are constants, each with its
    default: enforce or warn."""
    for path in (ROOT / "module_utils/pgrunbook").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check":
                named = {word.arg: word.value for word in node.keywords}
                enforced = ast.unparse(named["enforce"]) if "enforce" in named else "True"
                if isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value), "enforce" if enforced == "True" else "warn"


def test_every_gate_can_be_set() -> None:
    calls = set(calls_of_check()) - {("given_back", "warn"), ("schema_before", "warn")}
    assert {gate for gate, _ in calls} == set(GATES)
    assert {word for gate, word in calls if gate == "remaining"} == {"enforce", "warn"}


def gates(*statuses: str) -> list[Gate]:
    return [Gate(f"g{n}", f"T{n}", 3, "≥ 9", n, status) for n, status in enumerate(statuses)]


def test_the_reasons_name_every_failed_gate_and_only_those() -> None:
    assert reasons(gates("pass", "fail", "warn", "fail")) == [
        "T1: wanted ≥ 9, measured 1",
        "T3: wanted ≥ 9, measured 3",
    ]


def test_warnings_alone_are_no_reason() -> None:
    assert reasons(gates("pass", "warn")) == []


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 0, 100.0),
        (0, 3, 0.0),
        (3, 3, 100.0),
        (2, 3, 66.66),
        (949_999, 1_000_000, 94.99),
        (1_682_826, 1_682_827, 99.99),
    ],
)
def test_percentage(part: int, whole: int, expected: float) -> None:
    assert percentage(part, whole) == expected


@given(st.integers(1, 10**12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_percentage_rounds_down_by_less_than_a_hundredth(share: tuple[int, int]) -> None:
    part, whole = share
    exact, told = Fraction(100 * part, whole), Fraction(str(percentage(part, whole)))
    assert 0 <= exact - told < Fraction(1, 100)
    assert (told == 100) == (part == whole), "100 % only for all of them"
