# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates that a plan can judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..backfill import count_estimate
from ..backfill.count_estimate import Sampled
from ..backfill.counting import Counts, Coverage, Estimated, Interval
from ..backfill.eligibility import percentage
from ..core.spec import Spec
from ..core.values import plain, read
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


def estimated_agreement(
    spec: Spec, found: Sequence[Compared], between: Interval, pages: Sampled
) -> Gate:
    """The same gate, passed by what was found on some pages: on each of them, and which per cent of
    all rows agree with 95 % confidence."""
    compared, different = (sum(getattr(c, n) for c in found) for n in ("compared", "different"))
    share = percentage(compared - different, compared)
    return judge(
        spec,
        registry.AGREEMENT,
        target=f"≥ {spec.accuracy_min:g} % afterwards{kept_target(spec, found[0])}",
        measured=f"about {share} % at most {count_estimate.between(between)}: {different:,} of "
        f"{compared:,} rows on {len(pages.ranges):,} of {pages.pages:,} pages differ already",
        passed=True,
        evidence={"compared": compared, "different": different, "between": list(between)},
    )


def _baseline(spec: Spec, baseline: Mapping[str, Any]) -> Gate:
    before = {column: share["before"] for column, share in baseline["coverage"].items()}
    return judge(
        spec,
        registry.BASELINE,
        target="measured",
        measured=", ".join(f"{column} {share} %" for column, share in before.items())
        + _source(baseline),
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
                f"{'about ' if baseline.get('estimated') else ''}{baseline['rows_eligible']:,} of "
                f"{baseline['rows_total']:,} rows{_source(baseline)}",
                ", ".join(
                    f"{column} {share} %{_between(counts, column)}"
                    for column, share in after.items()
                ),
                *(
                    _short(column, counts.coverage[column], estimated=bool(counts.estimated))
                    for column in short
                ),
            ]
        ),
        passed=not short,
        evidence=baseline,
    )


def _source(counted: Mapping[str, Any]) -> str:
    """What counts, as JSON, are estimated from, where they are."""
    found = counted.get("estimated")
    return f", {count_estimate.source(read(Estimated, found))}" if found else ""


def _between(counts: Counts, column: str) -> str:
    found = counts.estimated
    return f" {count_estimate.between(found.after[column])}" if found else ""


def _short(column: str, share: Coverage, *, estimated: bool) -> str:
    """Why a column does not get enough."""
    some = "about " if estimated else ""
    why = [
        f"{some}{rows:,} rows {REASONS[reason]}" for reason, rows in share.lacking.items() if rows
    ]
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
