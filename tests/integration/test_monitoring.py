# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules, by Prometheus' own tool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "monitoring"
RULES, TESTS = FOLDER / "pgrunbook.rules.yml", FOLDER / "pgrunbook.rules.test.yml"


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@pytest.mark.parametrize(
    "arguments", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=str
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, str, Path]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.fail(
            "promtool is not installed. Next step: apt-get install --no-install-recommends "
            "prometheus, which has it on Debian and Ubuntu; the service need not run."
        )
    done = subprocess.run(
        [promtool, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    """Not to fire is to be silent at one time, or for one of the phases that the test has."""
    fires, silent = set(), set()
    for test in yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]:
        phases = {
            series["series"].split('phase="')[1].split('"')[0] for series in test["input_series"]
        }
        for case in test["alert_rule_test"]:
            firing = {alert["exp_labels"]["phase"] for alert in case["exp_alerts"]}
            assert firing <= phases
            fires |= {case["alertname"]} if firing else set()
            silent |= {case["alertname"]} if firing < phases else set()
    assert fires == silent == set(rules())


@pytest.mark.parametrize("name", rules())
def test_an_alert_says_how_bad_it_is_of_what_and_what_to_do(name: str) -> None:
    rule = rules()[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    told = " ".join(rule["annotations"].values())
    assert "$labels.phase" in told and "$labels.table" in told
    assert "Next step:" in told and "playbooks/" in told
