# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a report says, and what the ledger says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ansible.module_utils.pgrunbook.report.store import verify
from tests.integration.conftest import Database


def read(folder: Path) -> dict[str, Any]:
    """The newest report; all its files have to be there, and it has to vouch for itself."""
    latest = folder / "reports/latest"
    told: dict[str, Any] = json.loads((latest / "report.json").read_text("utf-8"))
    assert verify(told)
    files = {path.name for path in latest.iterdir()}
    assert files - {"plan.json"} == {"report.html", "report.md", "report.json", "junit.xml"}
    assert told["kind"] == "plan" or "plan.json" not in files
    for name in ("report.html", "report.md"):
        page = (latest / name).read_text("utf-8")
        assert told["title"] in page and told["sha256"] in page
    if told["kind"] != "plan" or told["coverage"]:
        assert "<svg" in (latest / "report.html").read_text("utf-8")
    suite = ElementTree.parse(latest / "junit.xml").getroot()
    broken_off = 1 if told["error"] else 0
    assert suite.get("tests") == str(len(told["checks"]) + broken_off)
    return told


def last_event(database: Database) -> dict[str, Any]:
    query = "SELECT body ->> 'kind' AS kind, body -> 'detail' AS detail, previous FROM {} {}"
    rows = database.sql(query.format("pgrunbook.event", "ORDER BY id DESC LIMIT 1"))
    found: dict[str, Any] = rows[0]
    return found


def sql_of(told: dict[str, Any], test: int) -> list[str]:
    """The statements that a person is told to type into psql for a test."""
    commands = [s["command"] for t in told["tests"] if t["test"] == test for s in t["repeat"]]
    typed = [c.splitlines()[1:-1] for c in commands if c.startswith("psql")]
    return [s for lines in typed for s in "\n".join(lines).split(";\n") if s.strip()]
