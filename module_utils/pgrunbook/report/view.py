# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTML and the Markdown page both show, in the order in which they show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..drift import Difference
from ..gates import Gate
from .evidence import ADVICE, advice, blocks, differences
from .value import BackfillFigures, Report, Schemas, Test
from .words import (
    PASSED,
    VERIFY,
    approver,
    facts_line,
    moment,
    passed_of,
    refused_heading,
    skipped,
)

SCHEMA_TEST = 2  # where the differences from before the run belong


@dataclass(frozen=True)
class Table:
    """A header, and rows with a cell for each of its words; false where it has no row."""

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class Evidence:
    """What a reader unfolds of a gate: differences, or preformatted texts with a caption each."""

    title: str
    differences: tuple[Difference, ...]
    blocks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ShownTest:
    """A test with its gates, the indexes that would serve its queries, the evidence, the
    differences from before the run, and what and how to repeat it by hand."""

    test: Test
    gates: Table
    advice: Table
    evidence: tuple[Evidence, ...]
    drift: tuple[Difference, ...]
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SchemaPart:
    """The columns, or the indexes: how many there are afterwards, and the lines of a diff."""

    part: str
    number: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """A report, and what is made of it for both pages."""

    report: Report
    facts_line: str
    passed: str
    missed: str
    tests: tuple[ShownTest, ...]
    readiness: Table
    risks: Table
    approvals: Table
    timeline: Table
    statements: str
    skipped: str
    refused_heading: str
    refused: Table
    schema: tuple[SchemaPart, ...]
    verify: str = VERIFY


def view(report: Report) -> View:
    """What both pages show of the report."""
    done = report.backfill
    return View(
        report=report,
        facts_line=facts_line(report),
        passed=PASSED[report.kind],
        missed="; ".join(gate.title for gate in report.checks if gate.status == "warn"),
        tests=tuple(_test(report, test) for test in report.tests),
        readiness=_readiness(report),
        risks=_risks(report),
        approvals=_approvals(report),
        timeline=_timeline(report),
        statements="\n".join(f"{statement};" for statement in report.statements),
        skipped=skipped(done),
        refused_heading=refused_heading(done),
        refused=_refused(done),
        schema=tuple(_schema(report.schema)),
    )


def _readiness(report: Report) -> Table:
    rows = ((row.criterion, passed_of(row), row.status) for row in report.readiness)
    return _table(("Criterion", "Checks", "Status"), rows)


def _risks(report: Report) -> Table:
    rows = ((each.risk, each.likelihood, each.impact, each.mitigation) for each in report.risks)
    return _table(("Risk", "Likelihood", "Impact", "Mitigation"), rows)


def _approvals(report: Report) -> Table:
    rows = (
        (each.scope, approver(each), each.approved_from, each.method, each.approved_at)
        for each in report.approvals
    )
    return _table(("Approved", "By", "From", "How", "When"), rows)


def _timeline(report: Report) -> Table:
    rows = ((moment(entry.at), entry.event, entry.text) for entry in report.timeline)
    return _table(("When (UTC)", "What", "Detail"), rows)


def _refused(done: BackfillFigures) -> Table:
    rows = ((row.key, f"{row.message} ({row.sqlstate})") for row in done.refused)
    return _table(("Row, by key", "What the server says"), rows)


def _table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Table:
    return Table(header, tuple(rows))


def _test(report: Report, test: Test) -> ShownTest:
    gates = [gate for gate in report.checks if gate.test == test.test]
    return ShownTest(
        test=test,
        gates=_table(
            ("Check", "Target", "Measured", "Status"),
            ((gate.title, gate.target, gate.measured, gate.status.upper()) for gate in gates),
        ),
        advice=_table(ADVICE, advice(gates)),
        evidence=tuple(map(_evidence, gates)),
        drift=report.drift if test.test == SCHEMA_TEST else (),
        commands=tuple((step.what, step.command) for step in test.repeat),
    )


def _evidence(gate: Gate) -> Evidence:
    return Evidence(gate.title, tuple(differences(gate)), blocks(gate))


def _schema(schema: Schemas) -> Iterable[SchemaPart]:
    """The columns and the indexes; nothing of a schema that was not seen afterwards."""
    for part in ("columns", "indexes"):
        before: Mapping[str, str] = schema.before.get(part, {})
        after: Mapping[str, str] = schema.after.get(part, {})
        lost = [f"- {name}: {was}" for name, was in before.items() if after.get(name) != was]
        new = [f"+ {name}: {now}" for name, now in after.items() if before.get(name) != now]
        if after:
            yield SchemaPart(part, len(after), (*lost, *new))
