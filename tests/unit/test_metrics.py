# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ansible.module_utils.pgrunbook.metrics import GAUGES, STATES, registry, write

MEASURED = {
    "rows_per_second": 14860,
    "hot_percent": 87.5,
    "replay_lag": 0.5,
    "held_seconds": 2.5,
    "batch_ms": {"batches": 48, "longest": 180.0},
}


def run(**changes: Any) -> dict[str, Any]:
    """A run as ledger.runs() has it."""
    return {
        "phase": "phase9",
        "table_name": "public.orders",
        "state": "running",
        "rows_eligible": 5678,
        "rows_changed": 1234,
        "seen_at": "1970-01-01 00:16:40+00",
        "progress": dict(MEASURED),
        **changes,
    }


def exposed(*runs: dict[str, Any]) -> dict[tuple[str, ...], float]:
    """The value of each sample, by its name and the values of its labels."""
    text = generate_latest(registry(list(runs))).decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
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
        "last_seen_timestamp_seconds": 1000,
        "rows_per_second": 14860,
        "hot_ratio": 0.875,
        "replay_lag_seconds": 0.5,
        "held_seconds": 2.5,
        "batch_longest_seconds": 0.18,
    }


def test_the_text_has_help_and_type_for_each_metric() -> None:
    text = generate_latest(registry([run()])).decode()
    for name, (told, _) in GAUGES.items():
        assert f"# HELP pgrunbook_{name} {told}\n# TYPE pgrunbook_{name} gauge\n" in text


def test_what_is_not_known_is_left_out() -> None:
    known = {"rows_eligible", "rows_filled", "last_seen_timestamp_seconds"}
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
    write(str(file), [run(rows_changed=1)])
    write(str(file), [run(rows_changed=2)])
    assert 'pgrunbook_rows_filled{phase="phase9",table="public.orders"} 2.0\n' in file.read_text()
    assert list(file.parent.iterdir()) == [file]
