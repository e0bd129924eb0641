# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTML and the Markdown page both show, in the order in which they show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..drift import CRITICAL, Difference, label_of
from ..gates import Gate
from .evidence import ADVICE, advice, blocks, differences
from .value import BackfillFigures, Prerequisite, Report, Schemas, Test
from .words import (
    VERIFY,
    approver,
    environment_line,
    facts_line,
    moment,
    refused_heading,
    skipped,
    verdict_word,
)

MET = {True: "MET", False: "UNMET", None: "OPEN"}


@dataclass(frozen=True)
class Table:
    """A header, and rows with a cell for each of its words; false where it has no row."""

    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.rows)


@dataclass(frozen=True)
class ShownDifference:
    """A difference from the models, the word that stands before it, and its ways out in short."""

    label: str
    of: Difference
    ways: Table


@dataclass(frozen=True)
class Evidence:
    """What a reader unfolds of a gate: differences, or preformatted texts with a caption each."""

    title: str
    differences: tuple[ShownDifference, ...]
    blocks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ShownTest:
    """A test with its gates, the indexes that would serve its queries, the evidence, and what and
    how to repeat it by hand."""

    test: Test
    gates: Table
    advice: Table
    evidence: tuple[Evidence, ...]
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
    environment_line: str
    word: str
    missed: str
    inconsistencies: Table
    drift: tuple[ShownDifference, ...]
    to_decide: tuple[ShownDifference, ...]
    prerequisites: Table
    met: str
    foreseen: Table
    tests: tuple[ShownTest, ...]
    readiness: Table
    passed: str
    risks: Table
    approvals: Table
    signatures: Table
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
        environment_line=environment_line(report),
        word=verdict_word(report),
        missed="; ".join(gate.title for gate in report.checks if gate.status == "warn"),
        inconsistencies=_inconsistencies(report),
        drift=tuple(_before(report, difference) for difference in report.drift),
        to_decide=tuple(_before(report, d) for d in report.drift if d.severity == CRITICAL),
        prerequisites=_prerequisites(report.decision.prerequisites),
        met=_share(each.met for each in report.decision.prerequisites),
        foreseen=_table(
            ("What", "Planned", "Happened"),
            ((each.what, each.planned, each.happened) for each in report.foreseen),
        ),
        tests=tuple(_test(report, test) for test in report.tests),
        readiness=_readiness(report),
        passed=_share(row.status == "PASS" for row in report.readiness),
        risks=_risks(report),
        approvals=_approvals(report),
        signatures=_signatures(report),
        timeline=_timeline(report),
        statements="\n".join(f"{statement};" for statement in report.statements),
        skipped=skipped(done),
        refused_heading=refused_heading(done),
        refused=_refused(done),
        schema=tuple(_schema(report.schema)),
    )


def _readiness(report: Report) -> Table:
    rows = ((row.criterion, row.target, row.current, row.status) for row in report.readiness)
    return _table(("Criterion", "Target", "Current", "Status"), rows)


def _prerequisites(given: Iterable[Prerequisite]) -> Table:
    return _table(("For a GO", "Status"), ((each.text, MET[each.met]) for each in given))


def _inconsistencies(report: Report) -> Table:
    rows = ((i.component, i.expected, i.found, i.now) for i in report.mismatch.inconsistencies)
    return _table(("Component", "Expected", "Found", "Now"), rows)


def _share(given: Iterable[bool | None]) -> str:
    """How many of them are so."""
    found = list(given)
    return f"{sum(map(bool, found))} of {len(found)}"


def _risks(report: Report) -> Table:
    rows = ((each.risk, each.likelihood, each.impact, each.mitigation) for each in report.risks)
    return _table(("Risk", "Likelihood", "Impact", "Mitigation"), rows)


def _approvals(report: Report) -> Table:
    rows = (
        (each.scope, approver(each), each.approved_from, each.method, each.approved_at)
        for each in report.approvals
    )
    return _table(("Approved", "By", "From", "How", "When"), rows)


def _signatures(report: Report) -> Table:
    """Who has signed the plan."""
    rows = (
        (signed.signer, signed.key, moment(signed.signed_at), moment(signed.expires_at))
        for each in report.approvals
        for signed in each.signatures
    )
    return _table(("Signed by", "Key", "When (UTC)", "Until (UTC)"), rows)


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
        commands=tuple((step.what, step.command) for step in test.repeat),
    )


def _evidence(gate: Gate) -> Evidence:
    return Evidence(gate.title, tuple(map(_difference, differences(gate))), blocks(gate))


def _before(report: Report, difference: Difference) -> ShownDifference:
    """A difference from before the run."""
    mended = difference.by_phase and difference.object in report.mismatch.mended
    return _difference(difference, "MENDED" if mended else "")


def _difference(difference: Difference, label: str = "") -> ShownDifference:
    ways = (
        (
            f"{way.option}{' (recommended)' if way.recommended else ''}",
            way.gains or "–",
            way.costs or "–",
        )
        for way in difference.resolutions
    )
    return ShownDifference(
        label or label_of(difference).upper(),
        difference,
        _table(("Way out", "For", "Against"), ways),
    )


def _schema(schema: Schemas) -> Iterable[SchemaPart]:
    """The columns and the indexes; nothing of a schema that was not seen afterwards."""
    for part in ("columns", "indexes"):
        before: Mapping[str, str] = schema.before.get(part, {})
        after: Mapping[str, str] = schema.after.get(part, {})
        lost = [f"- {name}: {was}" for name, was in before.items() if after.get(name) != was]
        new = [f"+ {name}: {now}" for name, now in after.items() if before.get(name) != now]
        if after:
            yield SchemaPart(part, len(after), (*lost, *new))
