# SPDX-License-Identifier: GPL-3.0-or-later
"""The data gates: coverage, data quality, and the indexes, on the database as it is now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import catalog, ledger
from ..backfill import eligibility, expressions, meanwhile, refused_rows
from ..backfill.counting import Counts, count
from ..backfill.equality import rules
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import APART, DIFFER, EQUAL, Spec
from ..core.values import plain
from ..ddl import index_plan
from . import registry
from .gate import Gate, judge
from .row_comparison import Compared, compare_all, compare_sample, count_drifted, undated


@dataclass(frozen=True, kw_only=True)
class RowsNow(Counts):
    """The rows of the table now; rows_refused of those that the source could fill are set aside,
    because the server refuses to fill them."""

    rows_refused: int

    @property
    def left(self) -> int:
        """Rows that the source could fill and that are not set aside."""
        return self.rows_eligible - self.rows_refused


@dataclass(frozen=True)
class DataGates:
    """What the data gates found: the table's columns and indexes, its rows by what a backfill would
    do with them, and the gates."""

    schema: dict[str, dict[str, str]]
    counts: RowsNow
    checks: tuple[Gate, ...]
    changed: bool = False


def validate(conn: Connection, spec: Spec) -> DataGates:
    """Measure the data gates."""
    info = catalog.inspect(conn, spec.table)
    _require_names(conn, spec, info)
    expressions.acknowledged_functions(conn, spec, info)
    by = rules(conn, spec, info)
    aside = refused_rows.of_newest_run(conn, spec)
    refused = refused_rows.count(conn, spec, info, aside)
    counts = RowsNow(**vars(count(conn, spec, info)), rows_refused=refused)
    sample = compare_sample(conn, spec, info, by, aside)
    every = compare_all(conn, spec, info, by, aside)
    drifted = count_drifted(conn, spec, info, by) if every.different else 0
    pending = [action.index.name for action in index_plan.plan(conn, spec, info)]
    return DataGates(
        schema=info.schema(),
        counts=counts,
        checks=(
            coverage(spec, counts, emptied=_emptied(conn, spec, counts)),
            remaining(spec, counts),
            accuracy(spec, sample),
            comparison(spec, every, drifted, undated(conn, spec) if every.different else ""),
            indexes_gate(spec, info, pending),
        ),
    )


def _require_names(conn: Connection, spec: Spec, info: TableInfo) -> None:
    """Raise RunbookError where a column of the phase is not there, or not any more."""
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    catalog.require_columns(spec.table, info, [*spec.key, *spec.source_key])
    catalog.require_columns(spec.source, source, spec.source_key.values())
    catalog.present_names(spec, info)


def _emptied(conn: Connection, spec: Spec, counts: RowsNow) -> str:
    """What is to be said of a table that has no rows any more, although the newest run of the phase
    has filled some, or was to; else nothing."""
    run = None if counts.rows_total else ledger.latest(conn, spec.phase, str(spec.table))
    if run is None or run.state == "reverted":
        return ""
    told = meanwhile.emptied(run.id, ledger.progress(conn, run.id))
    return f"; the table {told}" if told else ""


def coverage(spec: Spec, counts: RowsNow, emptied: str = "") -> Gate:
    """The gate on the share of rows that have a value, of each column. emptied is what _emptied()
    says."""
    now = {column: share.before for column, share in counts.coverage.items()}
    return judge(
        spec,
        registry.COVERAGE,
        target=f"{coverage_target(spec)} of all rows",
        measured=", ".join(f"{column} {share} %" for column, share in now.items()) + emptied,
        passed=not emptied
        and all(share >= spec.coverage_of(column) for column, share in now.items()),
        evidence=now,
    )


def coverage_target(spec: Spec) -> str:
    """What the phase wants of each column's coverage: of all, then of those with a share of their
    own."""
    own = [f"{c.name} {c.coverage_min:g} %" for c in spec.columns if c.coverage_min is not None]
    return f"≥ {spec.coverage_min:g} %" + (f" ({', '.join(own)})" if own else "")


def remaining(spec: Spec, counts: RowsNow) -> Gate:
    """The gate on rows that a run left, though the source could fill them."""
    left, refused = counts.left, counts.rows_refused
    return judge(
        spec,
        registry.REMAINING,
        target="0",
        measured=f"{left:,}, and {set_aside(refused)}" if refused else left,
        passed=left == 0,
        evidence={**counts.rows_skipped, "left": left, "refused": refused},
    )


def set_aside(refused: int) -> str:
    """How a gate calls rows that it does not hold against the phase."""
    return f"{refused:,} that the server refuses, which are set aside"


def accuracy(spec: Spec, found: Compared) -> Gate:
    """The gate on a random sample."""
    return judge(
        spec,
        registry.ACCURACY,
        target=f"≥ {spec.accuracy_min:g} % of {spec.sample_rows:,} rows{kept_target(spec, found)}",
        measured=f"{found.share} % of {found.compared:,} rows (seed {spec.sample_seed})"
        f"{kept_measured(spec, found)}",
        passed=found.share >= spec.accuracy_min,
        evidence={**plain(found), "seed": spec.sample_seed},
    )


def comparison(spec: Spec, found: Compared, drifted: int, unknown: str = "") -> Gate:
    """The gate on every row; drifted is how many differ because the source has changed since,
    and unknown what undated() says of those that are not among them."""
    share = eligibility.percentage(found.matched + drifted, found.compared)
    lacking = f"{found.missing:,} lack a value, " if found.missing else ""
    besides = f"; {set_aside(found.refused)}, are not among them" if found.refused else ""
    return judge(
        spec,
        registry.COMPARISON,
        target=f"≥ {spec.accuracy_min:g} % equal, or filled before the source changed"
        f"{kept_target(spec, found)}",
        measured=f"{share} % of {found.compared:,} rows; {lacking}{found.different:,} differ, "
        f"{drifted:,} of them because the source changed since{unknown}{kept_measured(spec, found)}"
        f"{besides}",
        passed=share >= spec.accuracy_min,
        evidence={**plain(found), "drifted": drifted},
    )


def kept_target(spec: Spec, found: Compared) -> str:
    """What the phase wants of values that a conversion kept; nothing where none did."""
    return "" if found.kept is None else f"; old values that were kept: {_KEPT[spec.kept_values]}"


def kept_measured(spec: Spec, found: Compared) -> str:
    """What was found of these values."""
    if found.kept is None:
        return ""
    parts = [f"{found.kept:,} rows keep an old value that differs from the source"]
    if found.kept_alone:
        parts.append(f"{found.kept_alone:,} keep one without a source row")
    return f"; {', '.join(parts)} ({_KEPT[spec.kept_values]})"


_KEPT = {
    APART: "counted apart",
    EQUAL: "counted as equal",
    DIFFER: "counted as different where they differ",
}


def indexes_gate(spec: Spec, info: TableInfo, pending: Sequence[str]) -> Gate:
    """The gate on the phase's indexes; pending are those that a run would still work on."""
    wanted = [index.name for index in spec.indexes]
    bad = [n for n in wanted if n not in info.indexes or not info.indexes[n].valid]
    bad += [n for n, index in info.indexes.items() if not index.valid and n not in bad]
    return judge(
        spec,
        registry.INDEXES,
        target=f"all {len(wanted)} of the phase, none INVALID" if wanted else "none INVALID",
        measured="all there and valid" if not bad else f"missing or invalid: {', '.join(bad)}",
        passed=not bad and not pending,
        evidence={n: info.indexes[n].definition for n in wanted if n in info.indexes},
    )
