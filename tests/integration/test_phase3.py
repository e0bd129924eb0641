# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole playbook, as its user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.conftest import Database, Played, plan_hash

Playbook = Callable[..., Played]


def test_dry_run_then_approved_run_then_nothing_to_do(
    database: Database, playbook: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    phase["phase_queries"] = [{**query, "enforce": False} for query in phase["phase_queries"]]
    before = database.fingerprint()
    dry = playbook(database.login, "phase3", "--check", "--diff", phase=phase)
    assert dry.status == 0, dry.output
    assert database.fingerprint() == before
    assert "transaction id none" in dry.output

    approval = plan_hash(dry.output)
    done = playbook(database.login, "phase3", "-e", f"approval={approval}", phase=phase)
    assert done.status == 0, done.output
    report = json.loads((tmp_path / "reports/latest/report.json").read_text())
    assert report["verdict"] == "GO"
    assert report["plan_hash"] == approval
    row = database.sql(
        "SELECT count(*) FILTER (WHERE s.snapshot_asn IS DISTINCT FROM i.current_asn"
        " OR s.snapshot_country IS DISTINCT FROM i.geo_country"
        " OR s.snapshot_ip_type IS DISTINCT FROM i.ip_type) AS wrong, count(*) AS n"
        " FROM session_summaries s JOIN ip_inventory i ON i.ip_address = s.source_ip"
    )[0]
    assert row["wrong"] == 0 and row["n"] > 2900

    again = playbook(database.login, "phase3", phase=phase)
    assert again.status == 0, again.output
    assert again.recap("changed") == 0
    assert json.loads((tmp_path / "reports/latest/report.json").read_text())["verdict"] == "GO"
