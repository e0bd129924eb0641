# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: status, verdict, and percentages that never flatter."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill.eligibility import percentage
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Spec
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.gates import registry
from ansible.module_utils.pgrunbook.gates.gate import Gate, judge, reasons
from ansible.module_utils.pgrunbook.gates.registry import Declared
from tests.unit.conftest import parsed

ROOT = Path(__file__).resolve().parents[2]


def judged(declared: Declared, *, passed: bool, spec: Spec | None = None) -> Gate:
    return judge(spec, declared, target="1", measured=2, passed=passed)


@pytest.mark.parametrize(
    ("passed", "default", "status"),
    [
        (True, "enforce", "pass"),
        (True, "warn", "pass"),
        (False, "enforce", "fail"),
        (False, "warn", "warn"),
    ],
)
def test_status(passed: bool, default: str, status: str) -> None:
    found = judged(Declared("id", "A", test=3, default=default), passed=passed)
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
    assert judged(Declared("id", "A", test=3), passed=False).status == "fail"


@pytest.mark.parametrize("default", ["enforce", "warn"])
@pytest.mark.parametrize(
    ("gates", "passed", "status", "target"),
    [
        ({"id": "enforce"}, False, "fail", "1"),
        ({"id": "warn"}, False, "warn", "1 (not enforced)"),
        ({"id": "enforce"}, True, "pass", "1"),
        ({"id": "warn"}, True, "pass", "1 (not enforced)"),
    ],
)
def test_a_gate_is_judged_as_the_phase_has_it_whatever_its_default(
    default: str, gates: dict[str, str], passed: bool, status: str, target: str
) -> None:
    found = judged(
        Declared("id", "A", test=3, default=default), passed=passed, spec=parsed(gates=gates)
    )
    assert (found.status, found.target) == (status, target)


@pytest.mark.parametrize("default", ["enforce", "warn"])
def test_a_gate_that_the_phase_does_not_name_goes_by_its_default(default: str) -> None:
    declared = Declared("coverage", "A", test=3, default=default)
    found = judged(declared, passed=False, spec=parsed(gates={"orphans": "enforce"}))
    assert (found.status, found.target) == ("fail" if default == "enforce" else "warn", "1")


@pytest.mark.parametrize(
    ("gates", "status"),
    [
        ({}, "fail"),
        ({"coverage": "enforce", "requirement": "warn"}, "fail"),
        ({"coverage": "warn"}, "warn"),
        ({"coverage": "warn", "requirement": "enforce"}, "fail"),
    ],
)
def test_a_gate_can_be_enforced_where_another_one_is(gates: dict[str, str], status: str) -> None:
    assert judged(registry.REQUIREMENT, passed=False, spec=parsed(gates=gates)).status == status


def used_declarations() -> Iterator[str]:
    """The names of the declarations with which the program judges what it measured."""
    for path in (ROOT / "module_utils/pgrunbook").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "judge":
                yield re.findall(r"registry\.([A-Z_]+)", ast.unparse(node.args[1]))[0]


def test_every_gate_that_is_declared_is_measured_and_the_other_way_round() -> None:
    used = {getattr(registry, name) for name in used_declarations()}
    assert used == set(registry.ALL.values())


def test_defaults() -> None:
    """As docs/report.md has them; on a later day rows that are left fail as well."""
    warned = {gate.id for gate in registry.ALL.values() if gate.default == "warn"}
    assert warned == {
        "superuser",
        "old_name",
        "orphans",
        "requirement",
        "agreement",
        "estimate",
        "remaining",
        "given_back",
        "schema_before",
    }


@pytest.mark.parametrize("gate", registry.ALL.values(), ids=str)
def test_every_gate_can_be_set_but_those_of_queries_and_rollbacks(gate: Declared) -> None:
    settable = gate.id not in ("query", "speedup", "given_back", "schema_before")
    assert gate.settable == settable
    if settable:
        registry.require_declared({gate.id: "warn"})


@pytest.mark.parametrize("gate", ["query:q", "speedup:q"])
def test_the_gate_of_a_query_is_set_beside_the_query(gate: str) -> None:
    with pytest.raises(RunbookError, match=rf"'{gate}'.*Next step: .*enforce .* phase_queries"):
        registry.require_declared({gate: "warn"})


@pytest.mark.parametrize("gate", ["Coverage", "given_back", ""])
def test_a_gate_that_is_none_is_refused_with_those_that_are(gate: str) -> None:
    with pytest.raises(RunbookError) as refused:
        registry.require_declared({"orphans": "warn", gate: "warn"})
    assert f"phase_gates names {gate!r}" in str(refused.value)
    settable = [gate.id for gate in registry.ALL.values() if gate.settable]
    assert ", ".join(settable) in str(refused.value) and "Next step:" in str(refused.value)


@pytest.mark.parametrize("word", ["Warn", "", True, None])
def test_a_gate_takes_one_of_two_words(word: Any) -> None:
    with pytest.raises(RunbookError, match=f"coverage to '{word}'; it takes enforce or warn. Next"):
        registry.require_declared(parsed(gates={"coverage": word}).gates)


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


@pytest.mark.parametrize("gate", registry.ALL)
def test_every_gate_is_documented(gate: str) -> None:
    pages = [(ROOT / "docs" / page).read_text("utf-8") for page in ("report.md", "monitoring.md")]
    assert re.search(rf"^\| `{gate}(:<name>)?` \|", "\n".join(pages), re.MULTILINE)
