# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan is NO-GO where the run could only end so: what it foresees of a gate is what the run then
measures."""

from __future__ import annotations

from typing import Any

from tests.integration.conftest import Database
from tests.integration.small_table import Table, fill
from tests.integration.steps import Module, Steps

PRIMARY = "ALTER TABLE t ADD PRIMARY KEY (id)"


def gate(result: dict[str, Any], id: str) -> dict[str, Any]:
    found: dict[str, Any] = {check["id"]: check for check in result["checks"]}[id]
    return found


def test_rows_that_the_server_refuses_bring_no_coverage(
    any_database: Database, module: Module
) -> None:
    after = (
        PRIMARY,
        "UPDATE s SET value = 'bad' WHERE ref = 7",
        "ALTER TABLE t ADD CONSTRAINT small CHECK (value <> 'bad')",
    )
    steps = Table(after=after, spec={"unfillable_max": 9}).make(any_database, module)
    (had,) = any_database.sql(
        "SELECT count(*) AS n, count(coalesce(t.value, nullif(s.value, 'bad'))) AS has"
        " FROM t LEFT JOIN s USING (ref)"
    )
    share = had["has"] * 10000 // had["n"] / 100
    for least, status in ((share, "pass"), (share + 0.01, "fail")):
        steps.spec["coverage_min"] = least
        found = gate(steps.plan(check=True), "requirement")
        assert (found["status"], f"value {share} %" in found["measured"]) == (status, True)
    assert f"value can get no more than {share} %, because " in found["measured"]
    assert "9 rows are such that the server refuses to fill them" in found["measured"]
    fill(steps)
    measured = gate(steps.do("data_gates"), "coverage")
    assert (measured["measured"], measured["status"]) == (f"value {share} %", "fail")


def test_rows_that_differ_already_are_never_overwritten(database: Database, module: Module) -> None:
    steps = Table().make(database, module)
    (now,) = database.sql(
        "SELECT count(*) AS n, count(*) FILTER (WHERE t.value <> s.value) AS differ"
        " FROM t JOIN s USING (ref)"
    )
    share = (now["n"] - now["differ"]) * 10000 // now["n"] / 100
    for changes, status in (
        ({"accuracy_min": 99.0}, "fail"),
        ({"gates": {"comparison": "warn"}}, "warn"),
        ({"gates": {}, "accuracy_min": share}, "pass"),
    ):
        steps.spec |= changes
        found = gate(steps.plan(check=True), "agreement")
        assert found["status"] == status
        assert f"{share} % of {now['n']} rows at most; {now['differ']} differ" in found["measured"]
    fill(steps)
    assert gate(steps.do("data_gates"), "comparison")["measured"].startswith(f"{share} % of")
    database.sql("UPDATE s SET value = 'other' WHERE ref < 9")
    assert gate(again(steps), "agreement")["status"] == "pass", "the source changed since"
    database.sql("UPDATE t SET value = 'another' WHERE ref < 9")
    assert gate(again(steps), "agreement")["status"] == "fail"


def again(steps: Steps) -> dict[str, Any]:
    return steps.do("plan", check=True)
