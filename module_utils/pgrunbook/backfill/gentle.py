# SPDX-License-Identifier: GPL-3.0-or-later
"""What an application feels of the backfill, measured on a commit and a query of our own, and what
the backfill makes of it: its pace."""

from __future__ import annotations

import math
import statistics
import time
import zlib
from collections.abc import Sequence

import psycopg
from psycopg.sql import Composed

from ..core.connection import Connection
from ..core.errors import reason
from ..core.reconnect import raise_if_lost
from ..core.spec import Spec
from ..ledger import checkpoint
from . import probe_query
from .pace import Pace

SAMPLE_SECONDS = 0.1
BASELINE_SAMPLES = 10
BASELINE_PAUSE_SECONDS = 0.05

_FELT_BY_QUERY = (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)


class Gentle:
    """Measures, and keeps the pace. It is used by one thread; others read the pace.

    kept is what kept() gave in the slice before: the latencies before the run's first batch, of
    which query, and the pace. Where the query is another one they are measured again.
    """

    def __init__(self, spec: Spec, kept: dict[str, float], query: Composed | None = None) -> None:
        self.pace = Pace(spec.batch_target_ms, kept.get("target_ms"), kept.get("duty", 1.0))
        self._spec, self._query, self._failed = spec, query, ""
        self._of_query = {"query": zlib.crc32(spec.probe_query.encode())} if query else {}
        same = self._of_query.items() <= kept.items()
        wanted = ("commit", "probe") if query else ("commit",)
        self._before = {name: kept[name] for name in wanted if same and name in kept}
        self._felt: dict[str, list[float]] = {"commit": [], "probe": []}
        self._least_target_ms = self.pace.target_ms

    @property
    def wanted(self) -> bool:
        """Whether the phase wants anything measured."""
        return bool(self._spec.max_commit_ms or self._query)

    @property
    def warning(self) -> str:
        """What keeps it from what the phase wants; empty where nothing does."""
        if self._failed:
            return f"phase_probe_query fails, and is not timed: {self._failed}"
        before, most = self._before.get("commit", 0.0), self._spec.max_commit_ms
        if 0 < most < before:
            return f"a commit took {before:.3g} ms before the run > phase_max_commit_ms {most:g}"
        return ""

    def begin(self, conn: Connection, run_id: str) -> None:
        """Measure what is felt before the run's first batch, unless an earlier slice has."""
        if not self.wanted or self._before:
            return
        looks: list[dict[str, float]] = []
        for _ in range(BASELINE_SAMPLES):
            looks.append(self._look(conn, run_id))
            time.sleep(BASELINE_PAUSE_SECONDS)
        for name in ("commit", "probe"):
            if felt := [look[name] for look in looks if name in look]:
                self._before[name] = statistics.median(felt)

    def look(self, conn: Connection, run_id: str) -> bool:
        """Measure once, and adapt the pace. Whether the pace is another one now."""
        found = self._look(conn, run_id)
        for name, milliseconds in found.items():
            self._felt[name].append(milliseconds)
        changed = self.pace.felt(too_slow=self._too_slow(found))
        self._least_target_ms = min(self._least_target_ms, self.pace.target_ms)
        return changed

    def kept(self) -> dict[str, float]:
        """What the next slice goes on from; empty where nothing is measured."""
        if not self.wanted:
            return {}
        pace = {"target_ms": self.pace.target_ms, "duty": self.pace.duty}
        figures = {name: round(value, 3) for name, value in (self._before | pace).items()}
        return {**figures, **self._of_query}

    def measured(self) -> dict[str, float]:
        """What was felt in the slice, and how it worked in the end; empty where nothing was
        measured. Latencies are 95th percentiles in milliseconds, those before the run's first
        batch are medians."""
        if not self._felt["commit"]:
            return {}
        found = {f"{name}_ms": _p95(felt) for name, felt in self._felt.items() if felt}
        before = {f"{name}_ms_before": round(ms, 2) for name, ms in self._before.items()}
        return {
            **found,
            **before,
            "target_ms": round(self.pace.target_ms, 1),
            "least_target_ms": round(self._least_target_ms, 1),
            "duty": round(self.pace.duty, 2),
            "looks": len(self._felt["commit"]),
        }

    def _look(self, conn: Connection, run_id: str) -> dict[str, float]:
        found = {"commit": checkpoint.commit_ms(conn, run_id)}
        if self._query and not self._failed:
            started = time.perf_counter()
            try:
                found["probe"] = probe_query.milliseconds(conn, self._query)
            except _FELT_BY_QUERY:
                found["probe"] = (time.perf_counter() - started) * 1000
            except psycopg.Error as error:
                raise_if_lost(error)
                self._failed = reason(error)
        return found

    def _too_slow(self, found: dict[str, float]) -> bool:
        most_commit, most_ratio = self._spec.max_commit_ms, self._spec.max_probe_ratio
        if most_commit and found["commit"] > most_commit:
            return True
        before = self._before.get("probe")
        return bool(most_ratio and before and found.get("probe", 0.0) > most_ratio * before)


def line(measured: dict[str, float]) -> str:
    """What was felt and done, for the line of progress: gentle: 6 ms batches, commit p95 4.1 ms."""
    parts = [f"{measured['target_ms']:.3g} ms batches"]
    if measured["duty"] < 1:
        parts.append(f"{measured['duty']:.0%} of the time".replace("%", " %"))
    parts.append(f"commit p95 {measured['commit_ms']:.3g} ms")
    if "probe_ms" in measured:
        parts.append(f"probe p95 {measured['probe_ms']:.3g} ms")
    return f"gentle: {', '.join(parts)}"


def _p95(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return round(ordered[math.ceil(len(ordered) * 0.95) - 1], 2)
