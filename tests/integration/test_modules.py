# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every module that touches the database: dry runs, idempotence, approvals."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml
from psycopg.sql import SQL, Identifier

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

LEDGER = ("run", "approval", "change", "batch", "event")
FROM_ANSIBLE = {"changed", "invocation", "warnings", "deprecations", "diff"}
WRITTEN_NOTHING = {"read_only": True, "xid": None}


def approved(steps: Steps) -> None:
    steps.plan()
    steps.approve("plan")


def ready_to_fill(steps: Steps) -> None:
    steps.begin()
    steps.approve("backfill")


def done(steps: Steps) -> None:
    ready_to_fill(steps)
    steps.do("backfill")
    steps.do("index")


def finished(steps: Steps) -> None:
    done(steps)
    steps.do("run", state="finished")


def ready_to_undo(steps: Steps) -> None:
    finished(steps)
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")


def undone(steps: Steps) -> None:
    ready_to_undo(steps)
    for name in ("backfill", "index", "column"):
        steps.do(name, state="reverted")


@dataclass(frozen=True)
class Call:
    """A call of a module where it has something to do: what comes before it, and its options."""

    module: str
    prepare: Callable[[Steps], None] = lambda steps: None
    options: dict[str, Any] = field(default_factory=dict)

    def arguments(self, steps: Steps, phase: Phase) -> dict[str, Any]:
        given = dict(self.options)
        if self.module == "approval":
            given = {**steps.approval("plan"), **given}
        if self.module == "drift":
            given["models"] = phase["phase_models"]
        if {"canary_of", "rollback_of"} & set(given):
            given = dict.fromkeys(given, steps.planned["run"]["id"])
        return given


REVERTED = {"state": "reverted"}
READS = {
    "preflight": Call("preflight"),
    "plan": Call("plan"),
    "plan of a rollback": Call("plan", finished, {"rollback_of": ""}),
    "drift": Call("drift"),
    "data gates": Call("data_gates", done),
    "data gates of the canary": Call("data_gates", done, {"canary_of": ""}),
    "query gates": Call("query_gates", done),
    "run_info without a ledger": Call("run_info"),
    "run_info": Call("run_info", done),
}
WRITES = {
    "approval of the plan": Call("approval", Steps.plan),
    "approval of the backfill": Call("approval", approved, {"scope": "backfill"}),
    "column": Call("column", approved),
    "index rename": Call("index", approved, {"actions": ["rename"]}),
    "index": Call("index", Steps.begin),
    "canary": Call("backfill", Steps.begin, {"canary": True}),
    "backfill": Call("backfill", ready_to_fill),
    "run finished": Call("run", done, {"state": "finished", "verdict": "GO"}),
    "run failed": Call("run", approved, {"state": "failed", "detail": "no luck"}),
    "backfill reverted": Call("backfill", ready_to_undo, REVERTED),
    "index reverted": Call("index", ready_to_undo, REVERTED),
    "column reverted": Call("column", ready_to_undo, REVERTED),
    "run reverted": Call("run", undone, REVERTED),
}


def everything(database: Database) -> list[Any]:
    """Both tables, the catalog and the ledger."""
    there = database.sql("SELECT to_regclass('pgrunbook.run') IS NOT NULL AS there")[0]["there"]
    return [database.fingerprint()] + [
        database.sql(SQL("SELECT * FROM pgrunbook.{} t ORDER BY t::text").format(Identifier(name)))
        for name in LEDGER
        if there
    ]


def keys_that_differ_from_the_documentation(module: str, result: dict[str, Any]) -> set[str]:
    documented = yaml.safe_load(importlib.import_module(f"pgrunbook_{module}").RETURN)
    always = {key for key, value in documented.items() if value["returned"] == "success"}
    return (result.keys() - FROM_ANSIBLE - documented.keys()) | (always - result.keys())


@pytest.mark.parametrize("call", READS.values(), ids=READS.keys())
def test_reads(database: Database, module: Module, phase: Phase, call: Call) -> None:
    steps = Steps.of(module, database, phase)
    call.prepare(steps)
    arguments = call.arguments(steps, phase)
    before = everything(database)
    dry, real = (steps.do(call.module, check=check, **arguments) for check in (True, False))
    assert everything(database) == before
    assert dry["proof"] == real["proof"] == WRITTEN_NOTHING
    foreseen = {"diff"} & dry.keys()  # of a plan, in place of the steps
    assert dry["changed"] is bool(foreseen) and real["changed"] is False
    assert dry.keys() - foreseen == real.keys()
    assert keys_that_differ_from_the_documentation(call.module, real) == set()


@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES.keys())
def test_writes(database: Database, module: Module, phase: Phase, call: Call) -> None:
    steps = Steps.of(module, database, phase)
    call.prepare(steps)
    arguments = call.arguments(steps, phase)
    before = everything(database)
    dry = steps.do(call.module, check=True, **arguments)
    assert everything(database) == before
    assert dry["proof"] == WRITTEN_NOTHING
    real = steps.do(call.module, **arguments)
    assert everything(database) != before
    assert dry["changed"] is real["changed"] is True
    assert dry.keys() == real.keys()
    assert keys_that_differ_from_the_documentation(call.module, real) == set()
    if call.module in ("column", "index"):
        assert dry["queries"] == real["queries"] != []
    if call.module == "column":
        assert dry["diff"] == real["diff"]
    assert steps.do(call.module, check=True, **arguments)["changed"] is False
    assert steps.do(call.module, **arguments)["changed"] is False


WRITERS = {
    "column": {},
    "index": {},
    "canary": {"canary": True},
    "backfill": {},
    "backfill reverted": REVERTED,
}
OTHERS = {
    "plan": ({"plan_hash": "0" * 64}, "Nobody approved"),
    "run": ({"id": "phase3-20260131T040506Z-1f2e"}, "The ledger has no run"),
    "execution": ({"execution": "another"}, "taken over by another execution"),
}


def refused(steps: Steps, writer: str, **arguments: Any) -> str:
    name = writer.split()[0].replace("canary", "backfill")
    return steps.refused(name, **WRITERS[writer], **arguments)


@pytest.mark.parametrize("writer", WRITERS)
def test_needs_an_approval(database: Database, module: Module, phase: Phase, writer: str) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    before = everything(database)
    assert steps.planned["run"]["id"] in refused(steps, writer)
    assert everything(database) == before


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_needs_the_approval_of_this(
    database: Database, module: Module, phase: Phase, writer: str, other: str
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin() if "backfill" in writer else approved(steps)
    if writer == "backfill":
        steps.approve("backfill")
    if writer == "backfill reverted":
        steps.backfill(canary=True)
        steps.do("run", state="failed")
        steps.plan(rollback_of=steps.planned["run"]["id"])
        steps.approve("rollback")
    before = database.fingerprint()
    changed, message = OTHERS[other]
    assert message in refused(steps, writer, run={**steps.planned["run"], **changed})
    assert database.fingerprint() == before


def test_canary_approval_covers_only_the_canary(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    assert steps.do("backfill", canary=True)["rows_done"] == phase["phase_canary_rows"]
    assert steps.do("backfill", canary=True)["rows_changed"] == 0
    before = database.fingerprint()
    assert "Nobody approved the backfill" in steps.refused("backfill")
    assert "Nobody approved the rollback" in steps.refused("backfill", state="reverted")
    assert database.fingerprint() == before


def test_approval_must_be_of_the_plan(database: Database, module: Module, phase: Phase) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    before = database.fingerprint()
    other = {**steps.planned["plan"], "steps": []}
    assert "hash" in steps.refused("approval", **{**steps.approval("plan"), "plan": other})
    assert "no run" in steps.refused("approval", **steps.approval("backfill"))
    assert database.fingerprint() == before


def test_approval_covers_only_its_statements(
    database: Database, module: Module, phase: Phase
) -> None:
    """An index is lost after the approval."""
    steps = Steps.of(module, database, phase)
    ready_to_fill(steps)
    database.sql("DROP INDEX ix_session_summaries_snapshot_asn")
    before = database.fingerprint()
    assert "does not hold this statement: CREATE INDEX" in steps.refused("index")
    assert database.fingerprint() == before
