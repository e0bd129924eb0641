# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody changes afterwards, in the ledger or in a report, is found by status.yml."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core import values
from tests.integration.conftest import Database, Played
from tests.integration.steps import Module, Steps

Playbook = Callable[..., Played]

# As who knows how the chain is made would do it.
REMAKE_THE_CHAIN = """
DO $$
DECLARE e record; last text := '';
BEGIN
    FOR e IN SELECT id, body FROM pgrunbook.event ORDER BY id LOOP
        UPDATE pgrunbook.event SET previous = last,
            hash = encode(sha256(convert_to(last || e.body::text, 'UTF8')), 'hex')
        WHERE id = e.id RETURNING hash INTO last;
    END LOOP;
END $$
"""


@dataclass(frozen=True)
class Evidence:
    """A finished run, its report, and what the modules that status.yml calls say of them."""

    database: Database
    module: Module
    report: Path

    def altered(self) -> list[str]:
        read = self.module("pgrunbook_report_info", folder=str(self.report.parents[1]))
        result = self.module(
            "pgrunbook_run_info", login=self.database.login, reports=read["reports"]
        )
        altered: list[str] = result["altered"]
        return altered

    def rewrite(self, **changes: Any) -> None:
        report = {**json.loads(self.report.read_text(encoding="utf-8")), **changes}
        self.report.write_text(json.dumps(report), encoding="utf-8")

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.report.read_text(encoding="utf-8"))
        return content


@pytest.fixture
def evidence(
    database: Database, module: Module, phase: dict[str, Any], tmp_path: Path
) -> Iterator[Evidence]:
    steps = Steps.of(module, database, phase, phase_queries=[])
    steps.report(tmp_path / "reports", models=phase["phase_models"])
    report = (tmp_path / "reports/latest/report.json").resolve()
    database.sql(
        "CREATE TABLE events AS TABLE pgrunbook.event;"
        "CREATE TABLE approvals AS TABLE pgrunbook.approval"
    )
    yield Evidence(database, module, report)


def restore(database: Database) -> None:
    for table, kept in (("event", "events"), ("approval", "approvals")):
        database.sql(
            f"DELETE FROM pgrunbook.{table};"
            f"INSERT INTO pgrunbook.{table} OVERRIDING SYSTEM VALUE TABLE {kept}"
        )


def test_each_change_is_found_and_named(
    evidence: Evidence, playbook: Playbook, tmp_path: Path
) -> None:
    database, run = evidence.database, evidence.content["run_id"]
    assert evidence.altered() == []

    changes = {
        "UPDATE pgrunbook.approval SET approved_by = 'mallory' WHERE scope = 'backfill'": (
            f"The approval backfill of run {run}"
        ),
        "DELETE FROM pgrunbook.approval WHERE scope = 'backfill'": (
            f"The approval backfill of run {run}"
        ),
        "UPDATE pgrunbook.approval SET plan = jsonb_set(plan, '{spec,workers}', '9')": (
            f"The plan that was approved for run {run}"
        ),
        "DELETE FROM pgrunbook.event WHERE id = (SELECT max(id) FROM pgrunbook.event)": (
            "is not the report that the ledger recorded"
        ),
        "DELETE FROM pgrunbook.event WHERE id > (SELECT max(id) - 3 FROM pgrunbook.event)": (
            "The ledger no longer has the"
        ),
        "DELETE FROM pgrunbook.event": "The ledger no longer has the",
        "UPDATE pgrunbook.event SET body = jsonb_set(body, '{at}', '\"2020-01-01\"') "
        "WHERE id = (SELECT min(id) FROM pgrunbook.event);" + REMAKE_THE_CHAIN: (
            "The ledger no longer has the"
        ),
    }
    for change, found in changes.items():
        database.sql(change)
        altered = evidence.altered()
        assert any(found in sentence for sentence in altered), (change, altered)
        restore(database)
        assert evidence.altered() == []

    written = evidence.report.read_bytes()
    evidence.rewrite(verdict="NO-GO")
    assert evidence.altered() == [f"{evidence.report} was changed since it was written."]
    played = playbook(database.login, "status")
    assert played.status != 0 and "was changed since it was written" in " ".join(
        played.output.split()
    )
    data = {key: value for key, value in evidence.content.items() if key != "sha256"}
    evidence.rewrite(sha256=values.sha256(data))
    assert ["is not the report that the ledger recorded" in s for s in evidence.altered()] == [True]
    evidence.rewrite(server={**evidence.content["server"], "database": "another"})
    assert evidence.altered() == []
    evidence.report.write_bytes(written)
    played = playbook(database.login, "status")
    assert played.status == 0, played.output
    assert "Events, approvals, journals and reports are as they were written." in played.output
