# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates that a plan can judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..backfill.counting import Counts, Coverage
from ..backfill.eligibility import percentage
from ..core.spec import Spec
from ..core.values import plain
from ..gates import Gate, registry
from ..gates.data_gates import coverage_target, kept_measured, kept_target
from ..gates.gate import judge
from ..gates.row_comparison import Compared
from .text import REASONS


def measure(
    spec: Spec,
    baseline: Mapping[str, Any],
    counts: Counts,
    proved: Mapping[str, Any],
    seconds: float,
) -> list[Gate]:
    """The gates. baseline has the counts that the run started from, as JSON. counts are those of
    now, which decide what coverage is possible. proved is what the server says of this session's
    writes, and seconds is how long planning took."""
    return [
        _baseline(spec, baseline),
        _requirement(spec, baseline, counts),
        _dry_run(spec, proved, seconds),
    ]


def agreement(spec: Spec, already: Compared, drifted: int, unknown: str = "") -> Gate:
    """The gate on rows that differ from their source before the run, which no run overwrites.
    drifted is how many do because the source has changed since they were filled, and unknown what
    row_comparison.undated() says of those that are not among them."""
    right = already.compared - already.different + drifted
    share = percentage(right, already.compared)
    return judge(
        spec,
        registry.AGREEMENT,
        target=f"≥ {spec.accuracy_min:g} % afterwards{kept_target(spec, already)}",
        measured=f"{share} % of {already.compared:,} rows at most; {already.different:,} differ "
        f"already, {drifted:,} of them because the source changed since{unknown}"
        f"{kept_measured(spec, already)}",
        passed=share >= spec.accuracy_min,
        evidence={**plain(already), "drifted": drifted},
    )


def _baseline(spec: Spec, baseline: Mapping[str, Any]) -> Gate:
    before = {column: share["before"] for column, share in baseline["coverage"].items()}
    return judge(
        spec,
        registry.BASELINE,
        target="measured",
        measured=", ".join(f"{column} {share} %" for column, share in before.items()),
        passed=True,
        evidence=before,
    )


def _requirement(spec: Spec, baseline: Mapping[str, Any], counts: Counts) -> Gate:
    after = {column: share.after for column, share in counts.coverage.items()}
    short = [column for column, share in after.items() if share < spec.coverage_of(column)]
    return judge(
        spec,
        registry.REQUIREMENT,
        target=f"{coverage_target(spec)} afterwards",
        measured="; ".join(
            [
                f"{baseline['rows_eligible']:,} of {baseline['rows_total']:,} rows",
                ", ".join(f"{column} {share} %" for column, share in after.items()),
                *(_short(column, counts.coverage[column]) for column in short),
            ]
        ),
        passed=not short,
        evidence=baseline,
    )


def _short(column: str, share: Coverage) -> str:
    """Why a column does not get enough."""
    why = [f"{rows:,} rows {REASONS[reason]}" for reason, rows in share.lacking.items() if rows]
    return f"{column} can get no more than {share.after} %, because {', '.join(why)}"


def _dry_run(spec: Spec, proved: Mapping[str, Any], seconds: float) -> Gate:
    return judge(
        spec,
        registry.DRY_RUN,
        target="READ ONLY, no transaction id assigned",
        measured=f"transaction_read_only {'on' if proved['read_only'] else 'OFF'}, "
        f"transaction id {proved['xid'] or 'none'}, {seconds} s",
        passed=proved["read_only"] and proved["xid"] is None,
        evidence={**proved, "seconds": seconds},
    )
