# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way through the table the backfill takes, and why.

An UPDATE that changes no indexed column can be heap-only (HOT) where its page has room: it writes
to no index. Full pages have no room. Interleaved passes update every n-th row of a page at a time,
so that pruning makes room for the next pass. They need the indexes on the filled columns to be
absent meanwhile, which costs little before a first backfill, when those columns are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .. import catalog
from ..catalog import BLOCK_BYTES, TableInfo, conversion
from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Spec
from .count_estimate import is_open
from .counting import Counts

DEFER_BELOW_COVERAGE = 10.0  # per cent; above it, queries may well use the index already
WORTH_ROWS = 20_000  # fewer are filled before an index is built again
ROOMY = 0.5  # share of free space from which every row finds room on its own page
TUPLE_OVERHEAD_BYTES = 28  # header, line pointer (PostgreSQL's documentation, "Page Layout")
LINE_POINTERS = 291  # of a page of 8 kB: MaxHeapTuplesPerPage in access/htup_details.h
PASSES_BY_ROWS_PER_PAGE = ((12, 16), (6, 8), (3, 4), (2, 2))


@dataclass(frozen=True)
class Strategy:
    """name is "interleaved", "ranges" or "keyset"; passes is 1 unless it is interleaved; deferred
    has the indexes, under their names after the rename, that are dropped for the backfill and
    built again after it."""

    name: str
    passes: int = 1
    deferred: tuple[str, ...] = ()


def choose(conn: Connection, spec: Spec, info: TableInfo, counts: Counts) -> tuple[Strategy, str]:
    """The strategy for the table as it is, and the reason in a sentence.

    Raises RunbookError where the phase asks for one that the table does not allow.
    """
    if spec.strategy == "ranges":
        return Strategy("ranges"), "the phase asks for it"
    if spec.strategy == "keyset":
        _require_key(spec, info)
        return Strategy("keyset"), "the phase asks for it"
    if not counts.rows_eligible:
        return Strategy("ranges"), "no row is to be filled"
    if not info.rows_estimate:  # never analysed, but counted
        info = replace(info, rows_estimate=counts.rows_total)
    asked = spec.strategy == "interleaved"
    blocking, foreign = _blocking(conn, spec, info)
    if foreign:
        why = _stays(info, foreign)
        if asked:
            raise RunbookError(
                f"phase_strategy is interleaved, but {why}. Next step: drop that index by hand, or "
                "set phase_strategy to auto."
            )
        return Strategy("ranges"), why
    passes, deferring = _passes(conn, info), naming(blocking)
    if asked:
        strategy = Strategy("interleaved", max(passes, 2), tuple(blocking))
        return strategy, f"the phase asks for it{deferring}"
    why_not = _why_not(info, counts, spec, passes, blocking)
    if why_not:
        return Strategy("ranges"), why_not
    why = f"{_rows_per_page(info):.0f} rows a page{deferring}"
    return Strategy("interleaved", passes, tuple(blocking)), why


def is_settled(counts: Counts) -> bool:
    """Whether choose() chooses the same for whatever the counts may be between, if they are
    estimated."""
    found = counts.estimated
    if found is None:
        return True
    few = found.rows_eligible[0] < 1 or is_open(found.rows_eligible, WORTH_ROWS)
    return not few and not any(is_open(s, DEFER_BELOW_COVERAGE) for s in found.before.values())


@dataclass(frozen=True)
class Other:
    """A strategy that the table could have been given, and why it may not be now; empty where it
    still may."""

    strategy: Strategy
    why_not: str = ""


def others(
    conn: Connection, spec: Spec, info: TableInfo, counts: Counts, chosen: Strategy
) -> list[Other]:
    """The strategies that choose() could have chosen for the table with other statistics or counts.

    One that may still be kept would do what its approval said, though choose() prefers another; one
    may not where an index that it drops could not be built again as it is, or nothing is to be
    filled.
    """
    if spec.strategy in ("ranges", "keyset"):
        return []
    blocking, foreign = _blocking(conn, spec, info)
    wanted = {index.renamed_from or index.name: index.name for index in spec.indexes}
    wanted |= {index.name: index.name for index in spec.indexes}
    why_not = ""
    if not counts.rows_eligible:
        why_not = "no row is to be filled"
    elif foreign:
        why_not = _stays(info, foreign)
    deferred = tuple(sorted({*blocking, *(wanted[n] for n in foreign if n in wanted)}))
    found = [
        Other(Strategy("interleaved", passes, deferred), why_not)
        for _, passes in PASSES_BY_ROWS_PER_PAGE
    ]
    if spec.strategy == "auto":
        found.append(Other(Strategy("ranges")))
    return [other for other in found if other.strategy != chosen]


def kept(approved: Strategy, found: Sequence[Other]) -> Strategy | None:
    """The one of others() that is the strategy which was approved before the run was broken off;
    None where there is none that may be kept. The indexes that it drops are those that are there.
    """
    same = (o for o in found if not o.why_not)
    return next(
        (
            o.strategy
            for o in same
            if (o.strategy.name, o.strategy.passes) == (approved.name, approved.passes)
        ),
        None,
    )


def words(strategy: Strategy) -> str:
    """A strategy for a person, with the indexes that it drops."""
    passes = f" in {strategy.passes} passes" if strategy.passes > 1 else ""
    gone = f", without {', '.join(strategy.deferred)} meanwhile" if strategy.deferred else ""
    return f"{strategy.name}{passes}{gone}"


def _stays(info: TableInfo, foreign: Sequence[str]) -> str:
    why = f"{', '.join(foreign)} cannot be dropped for the backfill and built again as it is"
    if not info.partitioned:
        return why
    return (
        f"{why}: PostgreSQL drops an index of a partitioned table only under ACCESS EXCLUSIVE on "
        "all its partitions"
    )


def _why_not(info: TableInfo, counts: Counts, spec: Spec, passes: int, blocking: list[str]) -> str:
    """Why interleaved passes would not pay, or an empty text."""
    if passes == 1:
        if _rows_per_page(info) < 2:
            return "fewer than two rows a page leave nothing to interleave"
        return "the pages have room for every new row version"
    if _rows_per_page(info) * 1.5 > LINE_POINTERS:
        return (
            f"{_rows_per_page(info):.0f} rows a page leave too few of its {LINE_POINTERS} line "
            "pointers, of which a heap-only update takes one more"
        )
    if counts.rows_eligible < WORTH_ROWS:
        return f"fewer than {WORTH_ROWS:,} rows are to be filled"
    covered = max((share.before for share in counts.coverage.values()), default=0.0)
    if blocking and covered >= DEFER_BELOW_COVERAGE:
        return (
            f"{covered} % of the values are there, so queries may use {', '.join(blocking)}, which "
            "would have to go"
        )
    return ""


def _require_key(spec: Spec, info: TableInfo) -> None:
    if info.partitioned or not spec.key:
        lacks = "is partitioned" if info.partitioned else "has no key"
        raise RunbookError(
            f"phase_strategy is keyset, but {spec.table} {lacks}. "
            "Next step: set phase_strategy to auto or ranges."
        )


def _blocking(conn: Connection, spec: Spec, info: TableInfo) -> tuple[list[str], list[str]]:
    """The indexes on the filled columns: those of the phase, which can be deferred, under their
    names after the rename, and those that have to stay."""
    after = conversion.foreseen(spec, info)
    names = set(catalog.present_names(spec, after).values())
    wanted = {index.name: index.name for index in spec.indexes}
    wanted |= {index.renamed_from: index.name for index in spec.indexes if index.renamed_from}
    deferrable, foreign = [], []
    for found in catalog.indexes_on(conn, info, names):
        index = info.indexes.get(found)
        if index and found in wanted and not index.valid:
            continue
        if index and found in wanted and index.replaceable:
            deferrable.append(wanted[found])
        else:
            foreign.append(found)
    return sorted(deferrable), foreign


def _passes(conn: Connection, info: TableInfo) -> int:
    if _free_share(conn, info) >= ROOMY:
        return 1
    rows = round(_rows_per_page(info))
    return next((passes for least, passes in PASSES_BY_ROWS_PER_PAGE if rows >= least), 1)


def _rows_per_page(info: TableInfo) -> float:
    return info.rows_estimate / info.pages if info.pages else 0.0


def _free_share(conn: Connection, info: TableInfo) -> float:
    """The share of a page that its rows leave free, estimated from the planner's statistics."""
    width: float = one(
        conn,
        "SELECT coalesce(sum(s.avg_width * (1 - s.null_frac)), 0)::float8 AS width"
        " FROM pg_stats s JOIN pg_class c ON c.relname = s.tablename"
        " JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname"
        " WHERE c.oid = %s::oid AND s.inherited = %s",
        (info.oid, info.partitioned),
    )["width"]
    if not width:
        return 0.0
    return 1.0 - _rows_per_page(info) * (width + TUPLE_OVERHEAD_BYTES) / BLOCK_BYTES


def naming(deferred: Sequence[str]) -> str:
    """What stands behind the reason for a strategy that drops indexes."""
    if not deferred:
        return ""
    return f"; {', '.join(deferred)} {'is' if len(deferred) == 1 else 'are'} built again after it"
