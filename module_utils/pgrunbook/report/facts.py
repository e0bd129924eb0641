# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report is made of: the results of the steps, as far as the report reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..backfill.estimate import Filling
from ..core import values
from ..core.connection import is_connection_string
from ..core.phase import parse
from ..core.spec import Spec
from ..ddl.step import Step
from ..drift import Difference
from ..gates import Gate, QueryPair
from ..ledger import Approval, History
from .value import Json, TableSchema

SHOWN = (
    *("service", "host", "port", "dbname", "user", "passfile"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey"),
)
"""What of a login psql needs, and no more: never a password."""


@dataclass(frozen=True)
class Phase:
    """What is not in the plan: the name, what the report calls it, the playbook that runs the phase
    as ansible-playbook takes it, and its file as phase_file names it; empty in a rollback."""

    name: str = ""
    title: str = ""
    playbook: str = "playbooks/<phase>.yml"
    file: str = ""


@dataclass(frozen=True)
class Run:
    """The run, and the hash of the plan that it does."""

    id: str
    plan_hash: str = ""


@dataclass(frozen=True)
class Plan:
    """What is read of a plan that was hashed."""

    spec: Json | None = None
    server: Json = field(default_factory=dict)
    schema: TableSchema = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    dependents: tuple[Json, ...] = ()
    triggers: tuple[str, ...] = ()
    volatile: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """The rows of the table, by what the run would do with them."""

    rows_total: int = 0
    rows_eligible: int = 0
    rows_skipped: Mapping[str, int] = field(default_factory=dict)
    estimated: Json | None = None


@dataclass(frozen=True)
class Baseline:
    """What the run started from, before an interruption."""

    counts: Counts = Counts()
    schema: TableSchema = field(default_factory=dict)
    queries: tuple[str, ...] = ()
    heap_only_percent: float | None = None


@dataclass(frozen=True)
class Planned:
    """What the plan returned, of a run or of a rollback."""

    run: Run | None = None
    plan: Plan = Plan()
    text: str = ""
    baseline: Baseline = Baseline()
    counts: Counts = Counts()
    checks: tuple[Gate, ...] = ()
    queries: tuple[str, ...] = ()
    conversions: tuple[Json, ...] = ()
    compared_by: Mapping[str, Json] = field(default_factory=dict)
    horizon: str = ""
    brief: str = ""
    estimates: Json = field(default_factory=dict)
    filling: Filling = field(default_factory=Filling)


@dataclass(frozen=True)
class Preflight:
    """What the preflight returned."""

    server: Json = field(default_factory=dict)
    health: Json = field(default_factory=dict)
    checks: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class Work:
    """What the backfill returned last, or its canary, or giving rows back."""

    rows_done: int = 0
    seconds: float = 0.0
    done: bool = False
    rows_changed: int | None = None
    rows_left_alone: int = 0
    left_alone: tuple[Any, ...] = ()
    rows_put_back: int = 0
    rows_rewritten: int = 0
    columns_gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a step returned that measures gates."""

    checks: tuple[Gate, ...] = ()
    schema: TableSchema = field(default_factory=dict)
    pairs: tuple[QueryPair, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What the comparison with the models returned before the run; None where it did not run."""

    differences: tuple[Difference, ...] | None = None


@dataclass(frozen=True)
class Column:
    """What taking renames back returned; None where it did not run."""

    schema: TableSchema | None = None


@dataclass(frozen=True)
class Record:
    """Who approved the run, what was done, and which indexes that it dropped are missing now; None
    where nobody looked."""

    approvals: tuple[Approval, ...] = ()
    history: History = field(default_factory=History)
    missing: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Facts:
    """Everything that a report is made of. Of a rollback, plan and backfill are the rollback's, and
    the history is that of the run that is undone. backfill is None where it did not run. login is
    how psql reaches the database, without a secret. error is why a step failed, and obstacles has
    its reasons one by one where it has several."""

    started_at: str = ""
    finished_at: str = ""
    error: str = ""
    obstacles: tuple[str, ...] = ()
    inventory: str = ""
    phase: Phase = Phase()
    login: Json = field(default_factory=dict)
    record: Record = Record()
    preflight: Preflight = Preflight()
    drift: Compared = Compared()
    plan: Planned = Planned()
    canary: Work = Work()
    canary_gates: Measured = Measured()
    backfill: Work | None = None
    schema: Measured = Measured()
    validation: Measured = Measured()
    queries: Measured = Measured()
    trial: Measured = Measured()
    column: Column = Column()

    @property
    def run(self) -> Run:
        """The run; where there is no plan, one that is named after the phase and the time."""
        began = self.started_at.replace("-", "").replace(":", "")
        return self.plan.run or Run(f"{self.phase.name}-{began}")

    @property
    def history(self) -> History:
        return self.record.history

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those of every plan of the run that was approved; where the ledger has none, of the plan
        at hand."""
        approved = tuple(values.read(Step, step) for step in self.history.steps)
        return approved or self.plan.plan.steps

    @property
    def queries_measured(self) -> Measured:
        """The queries, with the index that was tried; a trial that broke off has none."""
        return self.trial if self.trial.pairs else self.queries

    @property
    def schema_after(self) -> TableSchema:
        """The schema as validated; a trial that keeps an index has seen it last."""
        return self.trial.schema if self.trial.pairs else self.validation.schema

    @property
    def spec(self) -> Spec | None:
        return parse(dict(self.plan.plan.spec)) if self.plan.plan.spec else None


def read(given: Json) -> Facts:
    """The facts of the steps' results by their names, those of Facts. A result that is empty, or is
    missing, is that of a step that did not run.

    A lone surrogate, which UTF-8 cannot hold, becomes a question mark.
    """
    text = json.dumps(given, ensure_ascii=False, default=str)
    found = json.loads(text.encode("utf-8", "replace"))
    login = _without_secrets(found.get("login") or {})
    return values.read(Facts, _without_nothing({**found, "login": login}))


def _without_secrets(login: Json) -> Json:
    """The login without the password, and without a connection string, which may have one."""
    return {k: v for k, v in login.items() if k in SHOWN and not is_connection_string(v)}


def _without_nothing(value: Any, depth: int = 1) -> Any:
    """A mapping, and those in it, without the keys that have no value, so that their fields have
    their defaults."""
    if not isinstance(value, dict):
        return value
    there = {k: v for k, v in value.items() if v not in (None, "", {})}
    return {k: _without_nothing(v, depth - 1) for k, v in there.items()} if depth else there
