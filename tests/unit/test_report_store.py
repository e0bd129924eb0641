# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the reports in a folder is that of the latest run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.report.store import latest_measured
from tests.unit.test_post_run import pair

SERVER = {"system_identifier": "77", "database": "shop", "user": "alice", "standby": False}


def report(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": "run",
        "run_id": "phase9-20260131T040506Z-1f2e",
        "finished_at": "2026-01-31T04:05:00Z",
        "server": SERVER,
        "queries": [{"name": "by region", **pair(5, 6), "snapshot": {}}],
        **changes,
    }


def measured_in(folder: Path, *reports: dict[str, Any]) -> str | None:
    """The id of the run that is found among the reports."""
    for number, told in enumerate(reports):
        path = folder / f"phase9-{number}" / "report.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(told), encoding="utf-8")
    found, unreadable = latest_measured(folder, "phase9", SERVER)
    assert unreadable == []
    return found.run_id if found else None


def test_the_latest_run_that_got_to_its_queries_counts(tmp_path: Path) -> None:
    later = report(run_id="phase9-20260201T040506Z-1f2e", finished_at="2026-02-01T04:05:00Z")
    broken_off = report(finished_at="2026-03-01T04:05:00Z", queries=[])
    assert measured_in(tmp_path, later, report(), broken_off) == later["run_id"]
    found, _ = latest_measured(tmp_path, "phase9", SERVER)
    assert found and plain(found.queries) == {"by region": pair(5, 6)}


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "rollback"},
        {"run_id": "phase9-b-20260131T040506Z-1f2e"},
        {"server": {**SERVER, "system_identifier": "78"}},
        {"server": {**SERVER, "database": "staging"}},
        {"server": {}},
        {"format": 2},
    ],
)
def test_another_report_does_not_count(tmp_path: Path, other: dict[str, Any]) -> None:
    assert measured_in(tmp_path, report(**other)) is None


def test_a_report_without_a_kind_is_that_of_a_run(tmp_path: Path) -> None:
    told = report()
    del told["kind"]
    assert measured_in(tmp_path, told) == told["run_id"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}'])
def test_what_is_no_report_is_told(tmp_path: Path, text: str) -> None:
    assert measured_in(tmp_path, report()) is not None
    path = tmp_path / "phase9-x" / "report.json"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    found, unreadable = latest_measured(tmp_path, "phase9", SERVER)
    assert found and unreadable == [str(path)]


def test_without_a_folder_there_is_no_measurement(tmp_path: Path) -> None:
    assert latest_measured(tmp_path / "none", "phase9", SERVER) == (None, [])
