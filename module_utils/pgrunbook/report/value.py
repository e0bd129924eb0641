# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a value: what report.json holds, as docs/report.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core import values
from ..core.values import IF_ANY
from ..core.version import VERSION
from ..drift import Difference
from ..gates import Gate, QueryPair
from ..ledger import Approval, BatchPoint, Chain, RefusedRow, SlicePoint

FORMAT = 1

Json = Mapping[str, Any]
"""What came as JSON and is passed on as it is."""

TableSchema = Mapping[str, Mapping[str, str]]
"""Under columns and indexes a type or a definition by the name. Empty where nobody looked."""


@dataclass(frozen=True)
class TimelineEntry:
    """Something that happened; at is ISO 8601, UTC."""

    at: str
    event: str
    text: str


@dataclass(frozen=True)
class History:
    """How the backfill went on."""

    slices: tuple[SlicePoint, ...] = ()
    batches: tuple[BatchPoint, ...] = ()


@dataclass(frozen=True)
class Command:
    """What a person types to repeat a part of a test."""

    what: str
    command: str


@dataclass(frozen=True)
class Test:
    """One test of the report; its gates are those with its number."""

    test: int
    title: str
    objective: str
    status: str
    repeat: tuple[Command, ...] = ()


@dataclass(frozen=True)
class Criterion:
    """A row of the checklist: the worst of its gates, how many there are and have passed, what was
    wanted and what was found."""

    criterion: str
    status: str
    checks: int
    passed: int
    target: str = ""
    current: str = ""


@dataclass(frozen=True)
class Coverage:
    """A column's values before and after, in per cent of all rows; None where nobody measured."""

    before: float | None = field(default=None, metadata=IF_ANY)
    after: float | None = field(default=None, metadata=IF_ANY)


@dataclass(frozen=True)
class BackfillFigures:
    """The rows of a run or a rollback, and how long they took."""

    rows_total: int = 0
    rows_eligible: int = 0
    rows_changed: int = 0
    rows_left_alone: int = 0
    left_alone: tuple[Any, ...] = ()
    rows_refused: int = 0
    refused: tuple[RefusedRow, ...] = ()
    rows_put_back: int = 0
    rows_rewritten: int = 0
    columns_gone: tuple[str, ...] = ()
    rows_skipped: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    rows_per_second: int = 0
    rows_estimated: bool = False
    heap_only_expected_percent: float | None = None
    heap_only_percent: float | None = None
    batches: int = 0
    longest_batch_ms: float = 0.0
    after_canary_estimated_seconds: float | None = None
    after_canary_seconds: float | None = None


@dataclass(frozen=True)
class Schemas:
    """The table's columns and indexes, as planned and as validated."""

    before: TableSchema
    after: TableSchema


@dataclass(frozen=True)
class Undoable:
    """A statement, and what undoes it; empty where nothing does."""

    sql: str
    undo: str


@dataclass(frozen=True)
class Change:
    """A step that was approved and has SQL: its statements, each with what undoes it, both as texts
    that can be copied too; how many others differ in the partition only; and how many changes of it
    the ledger has recorded, and how many were taken back."""

    step: str
    title: str
    statements: tuple[Undoable, ...]
    lock: str
    omitted: int
    recorded: int
    taken_back: int
    sql_text: str = ""
    undo_text: str = ""


@dataclass(frozen=True)
class Undo:
    """How a run is taken back: with a command, or by hand with statements, also as one text."""

    command: str
    text: str
    statements: tuple[str, ...] = ()
    sql_text: str = ""


@dataclass(frozen=True)
class Risk:
    """What may go wrong, because a fact of the run calls for it. impact begins with high, medium
    or low."""

    risk: str
    likelihood: str
    impact: str
    mitigation: str


@dataclass(frozen=True)
class Environment:
    """Where the run was: the server as it sees itself, or as the login names it; standbys is how
    many were connected, None where nobody looked."""

    inventory: str = ""
    address: str = ""
    port: str = ""
    database: str = ""
    table: str = ""
    user: str = ""
    version: str = ""
    standbys: int | None = field(default=None, metadata=IF_ANY)


@dataclass(frozen=True)
class RiskLevel:
    """The overall risk at a time, such as "before the run": high, medium or low, and why."""

    when: str
    level: str
    why: str


@dataclass(frozen=True)
class Fact:
    """Something that is so: what, and how."""

    what: str
    how: str


@dataclass(frozen=True)
class Option:
    """What a person can do now: the command, empty where there is none, how long it takes, and what
    it leads to."""

    what: str
    command: str
    takes: str
    effect: str
    recommended: bool = False


@dataclass(frozen=True)
class Prerequisite:
    """What has to be so before the verdict can be GO, and whether it is; None where nobody could
    look yet."""

    text: str
    met: bool | None = field(default=None, metadata=IF_ANY)


@dataclass(frozen=True)
class Foreseen:
    """What the plan said, and what came."""

    what: str
    planned: str
    happened: str


@dataclass(frozen=True)
class Decision:
    """What a board decides on: the reason of the verdict and what is recommended, a sentence each;
    the overall risk by time; how the database is now; what can be done, and what is missing."""

    reason: str = ""
    recommendation: str = ""
    risk_levels: tuple[RiskLevel, ...] = ()
    state: tuple[Fact, ...] = ()
    options: tuple[Option, ...] = ()
    prerequisites: tuple[Prerequisite, ...] = ()


@dataclass(frozen=True)
class Inconsistency:
    """A component that the models expect otherwise than the database had it before the run, and how
    it is now."""

    component: str
    expected: str
    found: str
    now: str


@dataclass(frozen=True)
class Mismatch:
    """How the models and the database disagreed before the run: the cause as far as it is known,
    each inconsistency, the objects of those that are mended now, and what they affected and did not
    affect."""

    cause: str = ""
    inconsistencies: tuple[Inconsistency, ...] = ()
    mended: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    not_affected: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The report of a run (kind run), of what was found before it (plan), or of a rollback."""

    kind: str
    run_id: str
    title: str
    verdict: str
    reasons: tuple[str, ...]
    error: str
    started_at: str
    finished_at: str
    plan_hash: str
    chain: Chain
    approved_by: str | None
    approvals: tuple[Approval, ...]
    checks: tuple[Gate, ...]
    timeline: tuple[TimelineEntry, ...]
    history: History
    tests: tuple[Test, ...]
    schema: Schemas
    backfill: BackfillFigures
    format: int = FORMAT
    version: str = VERSION
    plan: str = ""
    brief: str = ""
    server: Json = field(default_factory=dict)
    health: Json = field(default_factory=dict)
    readiness: tuple[Criterion, ...] = ()
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    drift: tuple[Difference, ...] = ()
    queries: tuple[QueryPair, ...] = ()
    statements: tuple[str, ...] = ()
    targets: Mapping[str, float] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    undo: Undo = Undo("", "")
    risks: tuple[Risk, ...] = ()
    summary: tuple[str, ...] = ()
    environment: Environment = Environment()
    decision: Decision = Decision()
    mismatch: Mismatch = Mismatch()
    foreseen: tuple[Foreseen, ...] = ()
    sha256: str = ""


def as_json(report: Report) -> dict[str, Any]:
    """The report as report.json has it."""
    found: dict[str, Any] = values.plain(report)
    return found


def data_sha256(told: Json) -> str:
    """The SHA-256 of a report's data: of report.json without that key."""
    return values.sha256({key: value for key, value in told.items() if key != "sha256"})
