# SPDX-License-Identifier: GPL-3.0-or-later
"""How a phase is judged after its run: speed-ups that fell, sessions that could write, advice."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.spec import Spec
from ansible.module_utils.pgrunbook.core.values import plain, read
from ansible.module_utils.pgrunbook.gates.gate import Gate
from ansible.module_utils.pgrunbook.gates.post_run_verdict import (
    Previous,
    Result,
    conclude,
    figures,
    kept,
)
from ansible.module_utils.pgrunbook.gates.query_gates import gate as query_gate
from ansible.module_utils.pgrunbook.gates.query_pair import QueryPair, SpeedUp
from tests.unit.conftest import parsed

READ_ONLY = {"read_only": True, "xid": None}
QUERY = {"name": "by region", "snapshot": "SELECT 1", "baseline": "SELECT 1", "enforce": True}


def pair(time: float, buffers: float, *, cold: bool = False) -> dict[str, Any]:
    return {
        "time_ratio": time,
        "buffer_ratio": buffers,
        "read_from_outside": cold,
    }


def whole(measured: dict[str, Any], *, equal: bool) -> dict[str, Any]:
    """A pair as the module returns it, as if each run had given the same."""
    kinds = {"time": "time_ratio", "processor": "time_ratio", "buffer": "buffer_ratio"}
    spread = {"median": 1.0, "min": 1.0, "max": 1.0}
    side = {"ms": spread, "processor_ms": spread, "workers": 0, "buffers": 1, "read": 0, "plan": {}}
    return {
        **measured,
        "name": "by region",
        "equal": equal,
        "rows": 1,
        "runs": 11,
        "processor_ratio": measured["time_ratio"],
        **{f"{kind}_interval": [measured[of]] * 2 for kind, of in kinds.items()},
        "seed": 7,
        "snapshot": side,
        "baseline": side,
        "proposal": None,
    }


@pytest.mark.parametrize(
    ("before", "now", "left"),
    [
        (pair(10, 10, cold=True), pair(7, 10, cold=True), 0.7),
        (pair(10, 10, cold=True), pair(8, 1, cold=True), 0.8),
        (pair(10, 10), pair(7, 9), 0.9),
        (pair(10, 10), pair(9, 7), 0.9),
        (pair(10, 10), pair(7, 6), 0.7),
        (pair(10, 10, cold=True), pair(3, 10), 1.0),
        (pair(3, 10), pair(2, 10, cold=True), 1.0),
        (pair(0.0, 0.0), pair(0.01, 0.0), 1.0),
    ],
)
def test_what_is_left_of_a_speed_up(
    before: dict[str, Any], now: dict[str, Any], left: float
) -> None:
    assert kept(read(SpeedUp, before), read(SpeedUp, now)) == left


def gate(id: str, *, status: str = "pass", evidence: Any = None) -> dict[str, Any]:
    """A gate as a module returns it."""
    return dict(plain(Gate(id, f"The {id}", 3, "9", 8, status, evidence or {})))


def judged(*gates: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {
        "previous": {},
        "fall_max": 20,
        "command": "ansible-playbook playbooks/phase9.yml",
        "proof": READ_ONLY,
        "enforce": True,
        **more,
    }
    queries = [{**QUERY, "enforce": given.pop("enforce")}]
    spec = parsed(queries=queries, gates=given.pop("gates", {}))
    return concluded(spec, [{"checks": list(gates), "proof": given.pop("proof")}], **given)


def concluded(spec: Spec, results: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    """The verdict as the module returns it."""
    known = {"previous": {}, "fall_max": 20, "command": "", **given}
    known["previous"] = read(Previous, known["previous"])
    return dict(plain(conclude(spec, [read(Result, result) for result in results], **known)))


def previous(before: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": "phase9-1",
        "finished_at": "",
        "queries": {"by region": before} if before else {},
    }


def speedup(now: dict[str, Any], **more: Any) -> dict[str, Any]:
    checks = judged(gate("query:by region", evidence=whole(now, equal=True)), **more)["checks"]
    found: dict[str, Any] = {c["id"]: c for c in checks}["speedup:by region"]
    return found


def test_a_speed_up_may_fall_by_just_what_is_allowed() -> None:
    before = previous(pair(10, 10))
    assert speedup(pair(8, 8), previous=before)["status"] == "pass"
    assert speedup(pair(7.99, 7.99), previous=before)["status"] == "fail"
    assert speedup(pair(7.99, 7.99), previous=before, fall_max=30)["status"] == "pass"
    assert speedup(pair(7.99, 7.99), previous=before, enforce=False)["status"] == "warn"


@pytest.mark.parametrize(
    ("matched", "time", "enforce", "status"),
    [
        (100, 9, True, "fail"),
        (97, 9, True, "pass"),
        (97, 1, True, "fail"),
        (97, 1, False, "warn"),
        (100, 9, False, "fail"),
    ],
)
def test_results_may_differ_where_rows_differ_from_their_source(
    matched: int, time: float, enforce: bool, status: str
) -> None:
    rows = {"compared": 100, "matched": matched, "missing": 1 if matched == 97 else 0}
    found = queried(rows, time=time, enforce=enforce)
    assert found["status"] == status
    assert (
        "results differ, because 2 rows differ from their source now and 1 rows lack a value;"
        if matched == 97
        else "DIFFERENT RESULTS;"
    ) in found["measured"]


def queried(rows: dict[str, int], *, compares: str = "pass", **more: Any) -> dict[str, Any]:
    """The gate of a query whose results differ, beside the comparison of the rows."""
    time = more.pop("time", 9)
    spec = parsed(queries=[{**QUERY, "enforce": more.get("enforce", True)}])
    differing = read(QueryPair, whole(pair(time, time, cold=True), equal=False))
    query = plain(query_gate(spec, spec.queries[0], differing))
    compared = gate("comparison", status=compares, evidence=rows)
    checks = judged(query, compared, **more)["checks"]
    found: dict[str, Any] = {c["id"]: c for c in checks}["query:by region"]
    return found


def test_results_that_differ_because_too_many_rows_do_are_a_breach() -> None:
    rows = {"compared": 100, "matched": 3, "missing": 97}
    found = queried(rows, compares="fail")
    assert found["status"] == "fail" and "DIFFERENT RESULTS" in found["measured"]
    assert queried(rows, compares="warn")["status"] == "pass"


def test_a_run_that_was_taken_back_is_told_first() -> None:
    run = {"id": "phase9-1", "state": "reverted", "finished_at": "2026-01-31T04:05:06Z"}
    result = {"checks": [gate("coverage", status="fail")], "proof": READ_ONLY}
    found = concluded(parsed(), [{**result, "run": run}])
    said = "Run phase9-1 was taken back at 2026-01-31T04:05:06Z"
    assert found["text"].startswith(said)
    assert found["verdict"].splitlines()[1].startswith(said)
    assert (
        found["verdict"].count("Next step:") == 1 and "none, if that was meant" in found["verdict"]
    )
    for other in (None, {**run, "state": "finished"}):
        assert "taken back" not in str(concluded(parsed(), [{**result, "run": other}]))


def test_a_speed_up_that_nobody_measured_before_is_a_warning() -> None:
    for before in ({}, {**previous({}), "queries": {"another": pair(1, 1)}}):
        found = speedup(pair(8, 8), previous=before)
        assert (found["status"], found["measured"]) == ("warn", "no previous measurement")
        assert found["evidence"] == {"before": None, "kept": None}


def test_of_a_query_that_was_not_measured_nothing_is_said() -> None:
    assert [c["id"] for c in judged(gate("coverage"))["checks"]] == ["coverage", "read_only"]


def test_where_nothing_is_breached_it_is_ok_and_tells_what_the_server_says() -> None:
    found = judged(gate("coverage"), gate("remaining"))
    assert found["breached"] == []
    assert found["verdict"] == (
        "OK  phase9 on public.orders, 3 gates. The server says: transaction_read_only on, "
        "transaction id none, in 1 sessions."
    )
    assert found["text"].splitlines()[0] == "PASS  The coverage: 8"


@pytest.mark.parametrize(
    "proof", [{}, None, {"read_only": False, "xid": None}, {"read_only": True, "xid": "4711"}]
)
def test_a_session_that_could_write_is_a_breach(proof: Any) -> None:
    found = judged(gate("coverage"), proof=proof)
    assert found["breached"] == ["read_only"]
    assert "transaction_read_only OFF" in found["verdict"]
    assert ("4711" in found["verdict"]) == (bool(proof) and proof["xid"] == "4711")


def test_a_result_that_was_skipped_proves_nothing_and_needs_no_proof() -> None:
    spec = parsed()
    results = [{"skipped": True}, {"checks": [gate("coverage")], "proof": READ_ONLY}]
    assert concluded(spec, results)["breached"] == []
    assert concluded(spec, results[:1])["breached"] == ["read_only"]


def test_a_gate_that_the_phase_does_not_enforce_is_no_breach() -> None:
    unproved = {"read_only": False, "xid": None}
    found = judged(
        gate("coverage", status="warn"),
        gate("schema"),
        proof=unproved,
        gates={"read_only": "warn"},
    )
    assert found["breached"] == [] and found["verdict"].startswith("OK")
    statuses = {c["id"]: c["status"] for c in found["checks"]}
    assert statuses == {"coverage": "warn", "schema": "pass", "read_only": "warn"}
    assert found["checks"][-1]["target"].endswith(" (not enforced)")


def test_every_breached_gate_is_named_with_what_to_do() -> None:
    ids = ["coverage", "remaining", "accuracy", "comparison", "indexes", "schema", "speedup:x", "a"]
    unfilled = {"unfilled": 1234}
    gates = [gate(id, status="fail", evidence=unfilled) for id in ids]
    found = judged(*gates, gate("orphans"))
    assert found["breached"] == ids
    head, *steps = found["verdict"].splitlines()
    assert head.startswith("BREACHED  phase9 on public.orders, 8 of 10 gates. The server says")
    for id, step in zip(ids, steps, strict=True):
        assert step.startswith(f"The {id}: wanted 9, measured 8. Next step: "), step
    for step in steps[:2]:
        assert "to fill 1,234 rows: ansible-playbook playbooks/phase9.yml" in step


def test_where_no_row_can_be_filled_the_source_is_to_be_completed() -> None:
    found = judged(gate("coverage", status="fail"), gate("remaining", evidence={"unfilled": 0}))
    assert "complete the source" in found["verdict"]


def test_the_figures_for_the_metrics() -> None:
    spec = parsed(coverage_min=90.0)
    found = figures(spec, [read(Gate, gate("a")), read(Gate, gate("b", status="fail"))])
    assert (found.phase, found.table, found.coverage_min) == (
        "phase9",
        "public.orders",
        {"region": 0.9},
    )
    assert found.breached == {"a": False, "b": True}
    assert abs(found.at - time.time()) < 60
