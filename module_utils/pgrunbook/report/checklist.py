# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of a report, and the rows of its checklist: which gates belong to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..gates import Gate
from ..gates.gate import PASS
from ..gates.registry import declared, readiness_rows
from .in_short import Targets, current, target
from .value import Command, Criterion, Test

TESTS = {
    1: "Database connectivity",
    2: "Schema compatibility",
    3: "Coverage",
    4: "Dry-run safety",
    5: "Query performance",
    6: "Data quality",
}

OBJECTIVES = {
    1: "The database can be reached and written to, and every source key has its source row.",
    2: "Tables, columns, types and indexes are what the application's models and the phase expect.",
    3: "How many rows had a value before, and whether enough have one now.",
    4: "Planning, and so the dry run, wrote nothing; the server says so.",
    5: "Queries on the filled columns give what those give that they replace, and faster.",
    6: "What was filled is what the source says: the canary, a random sample, and every row.",
}

ROLLBACK_TESTS = {1: "Rows", 2: "Schema"}
ROLLBACK_OBJECTIVES = {
    1: "Every row that the run changed is as it was, unless somebody has changed it since.",
    2: "Columns and indexes are those that the run's first plan saw.",
}


def run_tests(gates: Sequence[Gate], repeat: Mapping[int, tuple[Command, ...]]) -> tuple[Test, ...]:
    """The six tests, each with the commands that repeat it by hand."""
    return tuple(
        Test(number, title, OBJECTIVES[number], _of(gates, number), repeat.get(number, ()))
        for number, title in TESTS.items()
    )


def rollback_tests(gates: Sequence[Gate]) -> tuple[Test, ...]:
    """The two tests of a rollback."""
    return tuple(
        Test(number, title, ROLLBACK_OBJECTIVES[number], _of(gates, number))
        for number, title in ROLLBACK_TESTS.items()
    )


def readiness(gates: Sequence[Gate], targets: Targets) -> tuple[Criterion, ...]:
    """A row for each criterion."""
    found = {
        criterion: [gate for gate in gates if declared(gate.id).readiness == criterion]
        for criterion in readiness_rows()
    }
    return tuple(_criterion(row, of, targets) for row, of in found.items())


def _criterion(row: str, gates: Sequence[Gate], targets: Targets) -> Criterion:
    statuses = [gate.status for gate in gates]
    return Criterion(
        criterion=row,
        status=_worst(statuses),
        checks=len(gates),
        passed=statuses.count(PASS),
        target=_joined(target(gate, targets) for gate in gates),
        current=_joined(current(gate) for gate in gates),
    )


def _joined(texts: Iterable[str]) -> str:
    """The texts, each once."""
    return "; ".join(dict.fromkeys(texts))


def _of(gates: Sequence[Gate], test: int) -> str:
    return _worst([gate.status for gate in gates if gate.test == test])


def _worst(statuses: Sequence[str]) -> str:
    if not statuses:
        return "NOT RUN"
    return next((word.upper() for word in ("fail", "warn") if word in statuses), "PASS")
