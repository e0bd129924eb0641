# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules and the dashboard, by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from ansible.module_utils.pgrunbook.report.metrics import (
    GAUGES,
    LABELS,
    VALIDATION,
    registry,
    validation_registry,
)
from tests.unit import test_metrics as measured

FOLDER = Path(__file__).resolve().parents[2] / "monitoring"
RULES, TESTS = FOLDER / "pgrunbook.rules.yml", FOLDER / "pgrunbook.rules.test.yml"


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: str) -> tuple[int, str]:
    """Its exit status, and what it says."""
    program = shutil.which("promtool")
    if program is None:
        pytest.fail(
            "promtool is not installed. Next step: apt-get install --no-install-recommends "
            "prometheus, which has it on Debian and Ubuntu; the service need not run."
        )
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [("check", "rules", RULES), ("test", "rules", TESTS)], ids=str
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, str, Path]) -> None:
    status, told = promtool(*map(str, arguments))
    assert status == 0, told


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


DASHBOARD: dict[str, Any] = json.loads(
    (FOLDER / "pgrunbook.dashboard.json").read_text(encoding="utf-8")
)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
UNITS = {"none", "short", "percentunit", "s", "suffix: rows/s", "suffix: ×"}  # that Grafana knows


def expressions() -> Iterator[tuple[str, str]]:
    """The expressions of the dashboard, each with the title of its panel, for all hosts and
    phases."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], re.sub(r"\$(host|phase)\b", ".*", target["expr"])


def written() -> Iterator[str]:
    """The series that the program writes for a run and a validation in which all was measured."""
    run = measured.run(rows_per_second=5000)
    before = {"time_ratio": 8.0, "buffer_ratio": 30.0}
    figures = measured.figures(
        **{
            "coverage": {"region": 98.76},
            "remaining": {"unfilled": 3},
            "accuracy": {"compared": 1000, "matched": 999},
            "comparison": {"compared": 2000, "matched": 1900, "drifted": 99},
            "query:by region": {"time_ratio": 6.0, "buffer_ratio": 15.0},
            "speedup:by region": {"before": before, "kept": 0.75},
        }
    )
    for collected in (registry("db1", [run]), validation_registry("db1", figures)):
        yield from series(collected)


def series(collected: CollectorRegistry) -> Iterator[str]:
    for family in collected.collect():
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            yield f"{sample.name}{{{labels}}} {sample.value:g}"


def test_each_expression_of_the_dashboard_has_data_of_what_the_program_writes(
    tmp_path: Path,
) -> None:
    rules = [
        {"record": f"panel:{n}", "expr": expression}
        for n, (_, expression) in enumerate(expressions())
    ]
    groups = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(groups))
    status, told = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert status == 0, told
    samples = [text.rpartition(" ") for text in written()]
    input_series = [{"series": name, "values": f"{value}x10"} for name, _, value in samples]
    cases = [
        {
            "expr": f"count({expression}) > bool 0",
            "eval_time": "5m",
            "exp_samples": [{"labels": "{}", "value": 1}],
        }
        for _, expression in expressions()
    ]
    test = {"interval": "1m", "input_series": input_series, "promql_expr_test": cases}
    given = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(given))
    status, told = promtool("test", "rules", str(tmp_path / "test.yml"))
    assert status == 0, told


def test_the_dashboard_shows_every_metric_and_names_only_labels_that_it_has() -> None:
    shown = " ".join(expression for _, expression in expressions())
    names = {f"pgrunbook_{name}" for name in (*GAUGES, *VALIDATION, "state")}
    assert set(re.findall(r"pgrunbook_\w+", shown)) == names
    own = {f"pgrunbook_{name}": labels for name, (_, labels, _) in VALIDATION.items()}
    for panel in PANELS:
        for target in panel["targets"]:
            of = set(re.findall(r"pgrunbook_\w+", target["expr"]))
            there = {*LABELS, *(["state"] if of == {"pgrunbook_state"} else [])}
            there |= {label for name in of for label in own.get(name, [])}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= there, panel["title"]


def test_a_panel_has_a_unit_that_fits_what_it_shows() -> None:
    for panel in PANELS:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit in UNITS, panel["title"]
        for target in panel["targets"]:
            shown = target["expr"]
            share = "_ratio{" in shown or " / (" in shown
            assert (unit == "percentunit") == share, panel["title"]
            assert (unit == "s") == ("_seconds{" in shown and not share), panel["title"]


def test_the_dashboard_is_for_grafana_10_and_newer_and_its_panels_do_not_overlap() -> None:
    assert DASHBOARD["schemaVersion"] == 38, "10.0's; newer ones migrate it, older ones do not"
    assert "id" not in DASHBOARD, "Grafana gives it one"
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = [each["name"] for each in DASHBOARD["templating"]["list"]]
    assert variables == ["datasource", "host", "phase"]
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'host=~"$host"' in target["expr"] and 'phase=~"$phase"' in target["expr"]
