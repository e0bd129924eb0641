# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: status, verdict, and percentages that never flatter."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.checks import check, verdict
from ansible.module_utils.pgrunbook.eligibility import percentage


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
    assert found == {
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
    assert found["status"] == "fail"


def checks(*statuses: str) -> list[dict[str, object]]:
    return [
        {"title": f"T{n}", "target": "≥ 9", "measured": n, "status": status}
        for n, status in enumerate(statuses)
    ]


def test_verdict_names_every_failed_gate_and_only_those() -> None:
    assert verdict(checks("pass", "fail", "warn", "fail")) == {
        "verdict": "NO-GO",
        "reasons": ["T1: wanted ≥ 9, measured 1", "T3: wanted ≥ 9, measured 3"],
    }


def test_warnings_alone_are_go() -> None:
    assert verdict(checks("pass", "warn")) == {"verdict": "GO", "reasons": []}


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
