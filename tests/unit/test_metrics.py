# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics as Prometheus reads them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ansible.module_utils.pgrunbook.gates.post_run_verdict import Figures
from ansible.module_utils.pgrunbook.ledger import RunStatus
from ansible.module_utils.pgrunbook.report.metrics import (
    GAUGES,
    STATES,
    VALIDATION,
    registry,
    validation_registry,
    write,
    write_validation,
)
from tests.unit.conftest import RUN_AT_WORK

RULES = Path(__file__).resolve().parents[2] / "monitoring/pgrunbook.rules.yml"

MEASURED = {
    "rows_per_second": 14860,
    "hot_percent": 87.5,
    "replay_lag": 0.5,
    "held_seconds": 2.5,
    "slice_seconds": 5.25,
    "batch_ms": {"batches": 48, "longest": 180.0},
    "gentle": {"commit_ms": 4.0, "target_ms": 6.0},
}


def run(**changes: Any) -> RunStatus:
    """A run as ledger.list_runs() has it."""
    at_work = replace(RUN_AT_WORK, seen_at="1970-01-01 00:16:40+00", progress=dict(MEASURED))
    return replace(at_work, **changes)


def exposed(*runs: RunStatus) -> dict[tuple[str, ...], float]:
    """The value of each sample, by its name and the values of its labels."""
    return samples_of(registry("db1", list(runs)))


def samples_of(collected: CollectorRegistry) -> dict[tuple[str, ...], float]:
    text = generate_latest(collected).decode()
    assert all('host="db1"' in line for line in text.splitlines() if not line.startswith("#"))
    return {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k != "host")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of_orders(samples: dict[tuple[str, ...], float]) -> dict[str, float]:
    return {
        key[0].removeprefix("pgrunbook_"): value
        for key, value in samples.items()
        if key[1:] == ("phase9", "public.orders")
    }


def test_everything_that_was_measured() -> None:
    assert of_orders(exposed(run())) == {
        "rows_eligible": 5678,
        "rows_filled": 1234,
        "rows_refused": 0,
        "last_seen_timestamp_seconds": 1000,
        "rows_per_second": 14860,
        "hot_ratio": 0.875,
        "replay_lag_seconds": 0.5,
        "held_seconds": 2.5,
        "slice_seconds": 5.25,
        "batch_longest_seconds": 0.18,
        "commit_seconds": 0.004,
        "batch_target_seconds": 0.006,
        "paused": 0,
        "indexes_missing": 0,
    }
    told = of_orders(exposed(run(control="pause", missing=("ix_a", "ix_b"))))
    assert (told["paused"], told["indexes_missing"]) == (1, 2)


def test_the_text_has_help_and_type_for_each_metric() -> None:
    text = generate_latest(registry("db1", [run()])).decode()
    for name, (told, _) in GAUGES.items():
        assert f"# HELP pgrunbook_{name} {told}\n# TYPE pgrunbook_{name} gauge\n" in text


def test_what_is_not_known_is_left_out() -> None:
    known = {"rows_eligible", "rows_filled", "rows_refused", "last_seen_timestamp_seconds"}
    known |= {"paused", "indexes_missing"}
    assert set(of_orders(exposed(run(progress={})))) == known
    nothing = {"hot_percent": None, "replay_lag": None, "batch_ms": {}}
    assert set(of_orders(exposed(run(progress=nothing)))) == known


def test_nothing_measured_is_not_unknown() -> None:
    zero = of_orders(exposed(run(progress={"hot_percent": 0.0, "replay_lag": 0.0})))
    assert (zero["hot_ratio"], zero["replay_lag_seconds"]) == (0, 0)


def test_only_the_newest_run_of_each_phase_and_table_counts() -> None:
    samples = exposed(
        run(rows_changed=30, state="running"),
        run(rows_changed=20, state="failed", table_name="public.lines"),
        run(rows_changed=10, state="finished"),
        run(rows_changed=5, phase="phase8"),
    )
    assert {
        key[1:]: value for key, value in samples.items() if key[0] == "pgrunbook_rows_filled"
    } == {
        ("phase9", "public.orders"): 30,
        ("phase9", "public.lines"): 20,
        ("phase8", "public.orders"): 5,
    }
    assert samples["pgrunbook_state", "phase9", "finished", "public.orders"] == 0


@pytest.mark.parametrize("state", STATES)
def test_a_run_is_in_one_state(state: str) -> None:
    samples = exposed(run(state=state))
    assert {key[2]: value for key, value in samples.items() if key[0] == "pgrunbook_state"} == {
        name: float(name == state) for name in STATES
    }


def test_without_a_run_there_is_no_sample() -> None:
    assert exposed() == {}


def test_the_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "new" / "pgrunbook.prom"
    write(str(file), "db1", [run(rows_changed=1)])
    write(str(file), "db1", [run(rows_changed=2)])
    told = 'pgrunbook_rows_filled{host="db1",phase="phase9",table="public.orders"} 2.0\n'
    assert told in file.read_text()
    assert list(file.parent.iterdir()) == [file]


def test_a_limit_is_there_only_while_the_run_has_one() -> None:
    assert "rows_per_second_limit" not in of_orders(exposed(run()))
    assert of_orders(exposed(run(rows_per_second=500)))["rows_per_second_limit"] == 500


def figures(**evidence: Any) -> Figures:
    """Those of a validation."""
    return Figures(
        phase="phase9",
        table="public.orders",
        at=1000.0,
        coverage_min={"region": 0.95},
        breached={"coverage": False, "remaining": True},
        evidence=evidence,
    )


def validated(**evidence: Any) -> dict[str, float]:
    """The value of each sample, by its name without pgrunbook_ and the value of its own label."""
    samples = samples_of(validation_registry("db1", figures(**evidence)))
    return {
        " ".join(
            [key[0].removeprefix("pgrunbook_"), *(set(key[1:]) - {"phase9", "public.orders"})]
        ): value
        for key, value in samples.items()
    }


ALWAYS = {
    "coverage_min_ratio region": 0.95,
    "gate_breached coverage": 0,
    "gate_breached remaining": 1,
    "validation_timestamp_seconds": 1000,
}


def test_everything_that_a_validation_measured() -> None:
    before = {"time_ratio": 8.0, "buffer_ratio": 30.0}
    assert validated(
        **{
            "coverage": {"region": 98.76, "kind": 100.0},
            "remaining": {"unfilled": 3},
            "accuracy": {"compared": 1000, "matched": 999},
            "comparison": {"compared": 2000, "matched": 1900, "drifted": 99},
            "query:by region": {"time_ratio": 6.0, "buffer_ratio": 15.0},
            "speedup:by region": {"before": before, "kept": 0.75},
            "indexes": {"ix": "CREATE INDEX"},
            "read_only": [{"read_only": True}],
            "orphans": None,
        }
    ) == {
        **ALWAYS,
        "coverage_ratio region": 0.9876,
        "coverage_ratio kind": 1,
        "rows_unfilled": 3,
        "accuracy_ratio": 0.999,
        "comparison_ratio": 0.9995,
        "query_speedup by region": 6,
        "query_speedup_before by region": 8,
        "query_speedup_kept_ratio by region": 0.75,
    }


def test_what_a_validation_did_not_measure_is_left_out() -> None:
    assert validated() == ALWAYS
    unknown = validated(**{"speedup:by region": {"before": None, "kept": None}})
    assert unknown == ALWAYS
    none = {"compared": 0, "matched": 0}
    assert validated(accuracy=none)["accuracy_ratio"] == 1
    assert validated(remaining={"unfilled": 0})["rows_unfilled"] == 0


def test_the_file_of_a_validation_is_replaced_in_a_folder_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "new" / "validation.prom"
    write_validation(str(file), "db1", figures())
    write_validation(str(file), "db1", figures(remaining={"unfilled": 2}))
    text = file.read_text()
    assert 'pgrunbook_rows_unfilled{host="db1",phase="phase9",table="public.orders"} 2.0\n' in text
    for name, (told, _, _) in VALIDATION.items():
        assert f"# HELP pgrunbook_{name} {told}\n# TYPE pgrunbook_{name} gauge\n" in text
    assert list(file.parent.iterdir()) == [file]


def test_the_two_files_share_no_metric() -> None:
    """node_exporter refuses a metric whose help differs between two files."""
    assert set(GAUGES) & set(VALIDATION) == set()


def test_the_rules_name_only_metrics_that_are_written() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    told = [r["expr"] + str(r["annotations"]) for group in groups for r in group["rules"]]
    named = {name for text in told for name in re.findall(r"\bpgrunbook_(\w+)", text)}
    assert len(named) > 10
    assert named <= {*GAUGES, *VALIDATION, "state"}
