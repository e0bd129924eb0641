# SPDX-License-Identifier: GPL-3.0-or-later
"""A query that misses its speed-up is told which index would serve it, and that index does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import no_go
from tests.integration.conftest import ROOT, Database, Played
from tests.integration.small_table import Table, fill
from tests.integration.steps import Module, Steps

REFERENCE_INDEXES = yaml.safe_load(
    (ROOT / "demo/reference-indexes.yml").read_text(encoding="utf-8")
)
ODD_QUERIES = {
    "columns": [
        {"name": "value", "type": "text", "source": "value"},
        {"name": "doc", "type": "json", "source": "to_json(value)"},
        {"name": "place", "type": "point", "source": "point(ref, 1)"},
    ],
    "queries": [
        {
            "name": name,
            "snapshot": f"SELECT count({{doc}}) FROM {{table}} WHERE {where}",
            "baseline": f"SELECT count({{doc}}) FROM {{table}} WHERE {where}",
        }
        for name, where in (
            ("of a value", "{value} = 'v1'"),
            ("of a place", "{place} ~= point(1, 1)"),
        )
    ],
    "speedup_min": 1000,
    "repetitions": 1,
}
MISSED_BY_ALL = {"phase_speedup_min": 1e6, "phase_repetitions": 1}


def reference_only(phase: dict[str, Any], database: Database) -> dict[str, Any]:
    """The phase with the reference indexes only, on a table that is renamed and filled."""
    database.sql(
        "ALTER TABLE session_summaries RENAME COLUMN snapshot_ip_types TO snapshot_ip_type;"
        "UPDATE session_summaries SET snapshot_asn = current_asn, snapshot_country = geo_country,"
        " snapshot_ip_type = ip_type FROM ip_inventory WHERE ip_address = source_ip"
    )
    database.sql("VACUUM (ANALYZE) session_summaries")
    return {**phase, **REFERENCE_INDEXES}


def test_the_findings_query_is_told_of_the_covering_index_and_that_serves_it(
    any_database: Database, module: Module, phase: dict[str, Any]
) -> None:
    phase = {**reference_only(phase, any_database), **MISSED_BY_ALL}
    steps = Steps.of(module, any_database, phase)
    missed = steps.do("query_gates")
    check = next(c for c in missed["checks"] if c["id"] == "query:sessions of a country and type")
    assert check["status"] == "fail"
    assert "An index on (snapshot_country, snapshot_ip_type) would hold" in check["measured"]
    assert "estimated, not tried" in check["measured"]

    proposal = missed["pairs"][0]["proposal"]
    any_database.sql(proposal["sql"])
    name = "ix_session_summaries_snapshot_country_snapshot_ip_type"
    size = any_database.sql("SELECT pg_relation_size(%s::regclass) AS bytes", (name,))[0]["bytes"]
    assert 0 < size < 1.2 * proposal["bytes"] + 16384
    steps.spec["speedup_min"] = 0.001
    served = steps.do("query_gates")
    assert "Index Only Scan" in json.dumps(served["pairs"][0]["snapshot"]["plan"])
    assert served["pairs"][0]["proposal"] is None
    any_database.sql(proposal["undo"])
    assert any_database.sql("SELECT to_regclass(%s) AS there", (name,))[0]["there"] is None


def test_what_has_its_index_already_is_told_of_none(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    phase = {**reference_only(phase, database), **MISSED_BY_ALL}
    database.sql(
        "CREATE INDEX there ON session_summaries (snapshot_country, snapshot_ip_type, session_id)"
    )
    missed = Steps.of(module, database, phase).do("query_gates")
    assert missed["checks"][0]["status"] == "fail"
    assert missed["pairs"][0]["proposal"] is None
    assert missed["pairs"][1]["proposal"]["columns"] == ["snapshot_ip_type", "snapshot_asn"]
    assert missed["pairs"][1]["proposal"]["include"] == ["source_ip"]


def test_the_index_has_a_name_that_is_free(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    phase = {**reference_only(phase, database), **MISSED_BY_ALL}
    database.sql(
        "CREATE INDEX ix_session_summaries_snapshot_country_snapshot_ip_type"
        " ON session_summaries (created_at)"
    )
    missed = Steps.of(module, database, phase).do("query_gates")
    database.sql(missed["pairs"][0]["proposal"]["sql"])


def test_the_demo_with_the_reference_indexes_ends_in_no_go_for_its_query_and_only_that(
    database: Database,
    approved: Callable[..., Played],
    tmp_path: Path,
    phase: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = approved(database, {**phase, **REFERENCE_INDEXES, "phase_index_advice": "try"})
    assert ended.status == 2, ended.output
    path = tmp_path / "reports/latest/report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    (reason,) = report["reasons"]
    assert report["verdict"] == "NO-GO"
    assert reason.startswith("Query speed-up: sessions of a country and type: wanted")
    assert "With an index on (snapshot_country, snapshot_ip_type), built in" in reason
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert [id for id, status in statuses.items() if status == "fail"] == [
        "query:sessions of a country and type"
    ]
    for file in ("report.html", "report.md"):
        text = (tmp_path / "reports/latest" / file).read_text(encoding="utf-8")
        assert "Indexes that would serve a query" in text and "; dropped again" in text, file
    (change,) = [c for c in report["changes"] if c["step"] == "index_trial"]
    assert change["recorded"] == change["taken_back"] >= 1
    assert not [sql for sql in report["undo"]["statements"] if "DROP INDEX" in sql]
    (again, *_) = [r for t in report["tests"] for r in t["repeat"] if "with the index" in r["what"]]
    assert [line for line in again["command"].splitlines() if line.startswith("DROP INDEX")]

    assert no_go.main([str(path)]) == 0
    for wrong, told in (
        ({"error": "The run stopped"}, "The run was broken off: The run stopped"),
        ({"checks": []}, "every query meets its speed-up"),
        ({"checks": [{**report["checks"][0], "status": "fail"}]}, "Not only a speed-up was missed"),
    ):
        path.write_text(json.dumps({**report, **wrong}), encoding="utf-8")
        assert no_go.main([str(path)]) == 1
        assert told in capsys.readouterr().err
    assert no_go.main([str(tmp_path / "nowhere")]) == 1


def test_a_column_without_an_order_is_only_included(database: Database, module: Module) -> None:
    columns = ", doc json, place point"
    table = Table(columns=columns, after=("ALTER TABLE t ADD PRIMARY KEY (id)",), spec=ODD_QUERIES)
    steps = table.make(database, module)
    fill(steps)
    advised = [pair["proposal"] for pair in steps.do("query_gates")["pairs"]]
    assert advised[1] is None
    assert (advised[0]["columns"], advised[0]["include"]) == (["value"], ["doc"])
    database.sql(advised[0]["sql"])
