# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest run of each phase as Prometheus metrics, for node_exporter's textfile collector."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

LABELS = ["phase", "table"]
STATES = ("running", "failed", "finished", "reverted")

Run = dict[str, Any]

GAUGES: dict[str, tuple[str, Callable[[Run], float | None]]] = {
    "rows_eligible": ("Rows that the source could fill.", lambda run: run["rows_eligible"]),
    "rows_filled": ("Rows that the run filled and that still stand.", lambda r: r["rows_changed"]),
    "last_seen_timestamp_seconds": (
        "When the run was last at work.",
        lambda run: datetime.fromisoformat(run["seen_at"]).timestamp(),
    ),
    "rows_per_second": (
        "Rows filled, or given back, a second in the latest slice.",
        lambda run: run["progress"].get("rows_per_second"),
    ),
    "hot_ratio": ("Share of heap-only updates.", lambda run: _ratio(run, "hot_percent")),
    "replay_lag_seconds": (
        "Replay lag of the slowest standby.",
        lambda run: run["progress"].get("replay_lag"),
    ),
    "held_seconds": (
        "Seconds of the latest slice in which a threshold or a person held the backfill.",
        lambda run: run["progress"].get("held_seconds"),
    ),
    "batch_longest_seconds": (
        "Duration of the longest batch of the latest slice.",
        lambda run: _seconds((run["progress"].get("batch_ms") or {}).get("longest")),
    ),
}
"""For each metric, after pgrunbook_, its help and how to take it from a run of ledger.info()."""


def write(path: str, runs: list[Run]) -> None:
    """Write the metrics of the newest run of each phase and table, as ledger.info() has them.

    The file is replaced in one step, and its folder made where it is missing. Raises OSError when
    it cannot be written.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(path, registry(runs))


def registry(runs: list[Run]) -> CollectorRegistry:
    """The metrics of the newest run of each phase and table; runs has the newest first. What is
    not known is left out."""
    newest = {(run["phase"], run["table_name"]): run for run in reversed(runs)}
    collected = CollectorRegistry()
    for metric, (text, value) in GAUGES.items():
        gauge = Gauge(f"pgrunbook_{metric}", text, LABELS, registry=collected)
        for labels, run in newest.items():
            measured = value(run)
            if measured is not None:
                gauge.labels(*labels).set(measured)
    state = Gauge(
        "pgrunbook_state", "1 for the run's state.", [*LABELS, "state"], registry=collected
    )
    for labels, run in newest.items():
        for name in STATES:
            state.labels(*labels, name).set(run["state"] == name)
    return collected


def _ratio(run: Run, name: str) -> float | None:
    percent = run["progress"].get(name)
    return None if percent is None else percent / 100


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
