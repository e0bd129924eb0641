# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as values. A plan is what a run or a rollback would do: all of it is hashed and approved. A
result has the plan, and what is shown with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import ledger
from ..backfill.constraints import Refusal
from ..backfill.counting import Counts
from ..backfill.equality import Rules
from ..backfill.estimate import Filling
from ..backfill.sample import SampledRow
from ..backfill.strategy import Strategy
from ..catalog.dependents import Dependent
from ..core.server import Identity
from ..core.spec import Spec
from ..core.values import plain
from ..ddl.convert import Moving
from ..ddl.schema_change import Schema
from ..ddl.step import Step
from ..gates import Gate
from .estimates import Estimates


@dataclass(frozen=True)
class Approvable:
    """What every plan has: the phase, the server, the table as it is, its surroundings (what else
    decides which values are stored), the triggers that fire, and the steps."""

    spec: Spec
    server: Identity
    schema: Schema
    surroundings: Mapping[str, str]
    triggers: list[str]
    steps: tuple[Step, ...]

    def as_json(self) -> dict[str, Any]:
        """The plan as it is hashed and stored."""
        steps = [step.as_json() for step in self.steps]
        return {**plain(self), "spec": self.spec.as_dict(), "steps": steps}

    @property
    def hash(self) -> str:
        """What an approval names."""
        return ledger.plan_hash(self.as_json())


@dataclass(frozen=True)
class Plan(Approvable):
    """What a run would do. It also has the source's columns, the dependents of the columns that are
    renamed or converted, and the volatile functions that the phase calls."""

    source_columns: Mapping[str, str]
    dependents: list[Dependent]
    volatile: list[str]
    strategy: Strategy

    @property
    def queries(self) -> list[str]:
        """The statements of the steps that a run has to do."""
        return [query for step in self.steps if step.needed for query in step.statements]


@dataclass(frozen=True)
class RollbackPlan(Approvable):
    """What would undo a run. columns_gone has the columns that are not there any more; notes are
    sentences that a person should know; journal_altered says what was changed in the journal since
    it was written."""

    undoes: str
    columns_gone: list[str]
    notes: list[str]
    journal_altered: list[str]


@dataclass(frozen=True)
class Alternative:
    """The same plan with another strategy: its hash, and what is said to somebody who approves that
    hash."""

    plan_hash: str
    told: str


@dataclass(frozen=True)
class IndexChange:
    """What a run does to an index: its kind, as index_plan has it, the name before and the one that
    the phase wants."""

    kind: str
    old: str
    name: str


@dataclass(frozen=True)
class InShort:
    """A run's plan, and what its short text tells besides, which is not hashed, because traffic
    changes it.

    resumes is whether this goes on with a run that was broken off. counts are of the table's rows
    now. filling says what the backfill's estimate is from.
    """

    plan: Plan
    run: ledger.Run
    resumes: bool
    counts: Counts
    why_strategy: str
    index_changes: list[IndexChange]
    estimates: Estimates
    filling: Filling


@dataclass(frozen=True)
class PlanResult(InShort):
    """A run's plan, and all that is shown with it.

    baseline has the counts that the run started from, with the schema and the statements then.
    refused, refused_pages_read and unforeseen are as constraints.Foreseen has them. sample has some
    rows before and after.
    """

    baseline: Mapping[str, Any]
    conversions: list[Moving]
    refused: list[Refusal]
    refused_pages_read: int
    unforeseen: list[str]
    compared_by: Rules
    alternatives: list[Alternative]
    heap_only_percent: float | None
    horizon: str
    sample: list[SampledRow]
    checks: list[Gate]

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        steps = any(step.needed for step in self.plan.steps)
        return steps or self.resumes or bool(self.counts.rows_eligible)

    def as_json(self) -> dict[str, Any]:
        """What the module returns, except for the text."""
        return {
            **plain(self),
            "changed": False,
            "plan": self.plan.as_json(),
            "plan_hash": self.run.plan_hash,
            "needed": self.needed,
            "schema": plain(self.plan.schema),
            "queries": self.plan.queries,
        }


@dataclass(frozen=True)
class RollbackResult:
    """A rollback's plan, and what is shown with it. needed is whether the run left anything to
    undo; rows is how many rows the journal lists, and seconds how long filling that many took, None
    where that was not measured; journal_unknown says what cannot be known of the journal; playbook
    is what ran the run."""

    plan: RollbackPlan
    run: ledger.Run
    needed: bool
    rows: int
    seconds: float | None
    journal_unknown: list[str]
    playbook: str

    def as_json(self) -> dict[str, Any]:
        """What the module returns, except for the text."""
        plan = self.plan.as_json()
        return {
            "changed": False,
            "spec": plan["spec"],
            "plan": plan,
            "plan_hash": self.run.plan_hash,
            "run": plain(self.run),
            "needed": self.needed,
            "counts": {"rows_total": 0, "rows_eligible": self.rows, "rows_skipped": {}},
            "queries": [query for step in self.plan.steps for query in step.statements],
            "journal_unknown": self.journal_unknown,
            "playbook": self.playbook,
        }
