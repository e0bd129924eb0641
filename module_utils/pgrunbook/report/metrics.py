# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus metrics for node_exporter's textfile collector: the newest run of each phase, and what
the post-run validation found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from ..gates.post_run_verdict import Figures
from ..ledger import RunStatus

LABELS = ["host", "phase", "table"]
STATES = ("running", "failed", "finished", "reverted")

GAUGES: dict[str, tuple[str, Callable[[RunStatus], float | None]]] = {
    "rows_eligible": ("Rows that the source could fill.", lambda run: run.rows_eligible),
    "rows_filled": ("Rows that the run filled and that still stand.", lambda r: r.rows_changed),
    "rows_refused": (
        "Rows that the run has set aside, because the server refuses to fill them.",
        lambda run: run.rows_refused,
    ),
    "last_seen_timestamp_seconds": (
        "When the run was last at work.",
        lambda run: datetime.fromisoformat(run.seen_at).timestamp(),
    ),
    "rows_per_second": (
        "Rows filled, or given back, a second in the latest slice.",
        lambda run: run.progress.get("rows_per_second"),
    ),
    "rows_per_second_limit": (
        "Rows a second that control.yml keeps the run below.",
        lambda run: run.rows_per_second or None,
    ),
    "slice_seconds": (
        "Duration of the latest slice.",
        lambda run: run.progress.get("slice_seconds"),
    ),
    "hot_ratio": ("Share of heap-only updates.", lambda run: _ratio(run, "hot_percent")),
    "replay_lag_seconds": (
        "Replay lag of the slowest standby.",
        lambda run: run.progress.get("replay_lag"),
    ),
    "held_seconds": (
        "Seconds of the latest slice in which the backfill was throttled or paused.",
        lambda run: run.progress.get("held_seconds"),
    ),
    "paused": (
        "1 where somebody told the run to pause.",
        lambda run: float(run.control == "pause"),
    ),
    "indexes_missing": (
        "Indexes that the run dropped and that are not there now.",
        lambda run: len(run.missing),
    ),
    "batch_longest_seconds": (
        "Duration of the longest batch of the latest slice.",
        lambda run: _seconds((run.progress.get("batch_ms") or {}).get("longest")),
    ),
    "commit_seconds": (
        "Duration of a small commit beside the latest slice, its 95th percentile.",
        lambda run: _seconds((run.progress.get("gentle") or {}).get("commit_ms")),
    ),
    "batch_target_seconds": (
        "How long a batch was to take at the end of the latest slice, where commits are measured.",
        lambda run: _seconds((run.progress.get("gentle") or {}).get("target_ms")),
    ),
}
"""For each metric, after pgrunbook_, its help and how to take it from a run."""

Series = dict[tuple[str, ...], float | None]

VALIDATION: dict[str, tuple[str, list[str], Callable[[Figures], Series]]] = {
    "coverage_ratio": (
        "Share of all rows in which the column has a value.",
        ["column"],
        lambda s: {(column,): share / 100 for column, share in _found(s, "coverage").items()},
    ),
    "coverage_min_ratio": (
        "Share of all rows in which the column must have a value.",
        ["column"],
        lambda s: {(column,): share for column, share in s.coverage_min.items()},
    ),
    "rows_unfilled": (
        "Rows that the source could fill, and could a while before.",
        [],
        lambda s: {(): _found(s, "remaining").get("unfilled")},
    ),
    "accuracy_ratio": (
        "Share of the rows of a random sample that equal their source.",
        [],
        lambda s: {(): _right(_found(s, "accuracy"))},
    ),
    "comparison_ratio": (
        "Share of all rows with a source that equal it, or were filled before it changed.",
        [],
        lambda s: {(): _right(_found(s, "comparison"))},
    ),
    "query_speedup": (
        "How many times faster the query is than the one that it replaces.",
        ["query"],
        lambda s: {key: pair.get("time_ratio") for key, pair in _queries(s, "query").items()},
    ),
    "query_speedup_before": (
        "The same, as the latest run of the phase measured it.",
        ["query"],
        lambda s: {
            key: (pair["before"] or {}).get("time_ratio")
            for key, pair in _queries(s, "speedup").items()
        },
    ),
    "query_speedup_kept_ratio": (
        "Share of the previous speed-up that is left, by time, or by buffers from a warm cache.",
        ["query"],
        lambda s: {key: pair["kept"] for key, pair in _queries(s, "speedup").items()},
    ),
    "gate_breached": (
        "1 where the gate is breached, 0 where it holds or is not enforced.",
        ["gate"],
        lambda s: {(gate,): float(breached) for gate, breached in s.breached.items()},
    ),
    "validation_timestamp_seconds": ("When the gates were measured.", [], lambda s: {(): s.at}),
}
"""For each metric of a validation, after pgrunbook_, its help, its labels besides LABELS, and how
to take it, by the values of these labels, from its figures."""


def write(path: str, host: str, runs: list[RunStatus]) -> None:
    """Write the metrics of the newest run of each phase and table of a host, as ledger.list_runs()
    has them. Raises OSError when the file cannot be written."""
    _replace(path, registry(host, runs))


def write_validation(path: str, host: str, figures: Figures) -> None:
    """Write the metrics of a host's validation. Raises OSError when the file cannot be written."""
    _replace(path, validation_registry(host, figures))


def registry(host: str, runs: list[RunStatus]) -> CollectorRegistry:
    """The metrics of the newest run of each phase and table; runs has the newest first. What is
    not known is left out."""
    newest = {(host, run.phase, run.table_name): run for run in reversed(runs)}
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
            state.labels(*labels, name).set(run.state == name)
    return collected


def validation_registry(host: str, figures: Figures) -> CollectorRegistry:
    """The metrics of a validation. What was not measured is left out."""
    collected = CollectorRegistry()
    for metric, (text, labels, values) in VALIDATION.items():
        gauge = Gauge(f"pgrunbook_{metric}", text, [*LABELS, *labels], registry=collected)
        for key, measured in values(figures).items():
            if measured is not None:
                gauge.labels(host, figures.phase, figures.table, *key).set(measured)
    return collected


def _replace(path: str, collected: CollectorRegistry) -> None:
    """Replace the file in one step. Its folder is made where it is missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(path, collected)


def _found(figures: Figures, gate: str) -> dict[str, Any]:
    """The evidence of a gate; empty where it was not measured."""
    found: dict[str, Any] = figures.evidence.get(gate) or {}
    return found


def _queries(figures: Figures, kind: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """The evidence of the gates of a kind that there is one of for each query, by the query."""
    prefix = f"{kind}:"
    return {
        (gate.removeprefix(prefix),): evidence
        for gate, evidence in figures.evidence.items()
        if gate.startswith(prefix)
    }


def _right(found: dict[str, Any]) -> float | None:
    """The share of compared rows that are right; of no rows at all it is 1."""
    if not found:
        return None
    right: int = found["matched"] + found.get("drifted", 0)
    return right / found["compared"] if found["compared"] else 1.0


def _ratio(run: RunStatus, name: str) -> float | None:
    percent = run.progress.get(name)
    return None if percent is None else percent / 100


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
