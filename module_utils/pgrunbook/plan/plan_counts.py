# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a plan: counted, or in a large table estimated where that decides the same."""

from __future__ import annotations

from dataclasses import dataclass

from ..backfill import count_estimate
from ..backfill.count_estimate import Sampled, is_open
from ..backfill.counting import Counts, count, without
from ..backfill.equality import Rules
from ..backfill.sample import SampledRow, sample
from ..backfill.strategy import is_settled
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec
from ..gates import Gate
from ..gates.row_comparison import compare_all, compare_pages, count_drifted, undated
from . import plan_gates
from .requirements import Sound

SAMPLED_ROWS = 100


@dataclass(frozen=True)
class Looked:
    """What was found of the table's rows: their counts, the gate on those that differ from the
    source already, and some that are to be filled."""

    counts: Counts
    agreement: Gate
    sample: list[SampledRow]


def look(conn: Connection, spec: Spec, info: TableInfo, sound: Sound, *, check: bool) -> Looked:
    """Look at the table's rows; check is whether this is for a dry run."""
    by, pages = sound.compared_by, count_estimate.sampled_for(conn, spec, info, check=check)
    counts = _estimated(conn, spec, info, sound, pages) if pages else None
    agreement = _estimated_agreement(conn, spec, info, by, pages) if pages else None
    among = pages.ranges if pages and counts else []
    return Looked(
        counts or without(count(conn, spec, info), sound.foreseen.left),
        agreement or _agreement(conn, spec, info, by),
        sample(conn, spec, info, by, SAMPLED_ROWS, among),
    )


def _estimated(
    conn: Connection, spec: Spec, info: TableInfo, sound: Sound, pages: Sampled
) -> Counts | None:
    """The counts from some pages; None where they leave open which strategy is chosen or whether a
    gate is missed, or the server refuses rows, which have been counted."""
    counts = count_estimate.estimate(conn, spec, info, pages)
    if counts is None or counts.estimated is None or any(sound.foreseen.left.values()):
        return None
    after = counts.estimated.after
    missed = any(is_open(after[c.name], spec.coverage_of(c.name)) for c in spec.columns)
    return None if missed or not is_settled(counts) else counts


def _estimated_agreement(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, pages: Sampled
) -> Gate | None:
    """The gate from some pages; None where they leave open whether it is missed."""
    found = compare_pages(conn, spec, info, by, pages.ranges)
    if not any(each.compared for each in found):
        return None
    right = [each.compared - each.different for each in found]
    between = count_estimate.share(right, [each.compared for each in found], pages)
    if between[0] < spec.accuracy_min:
        return None
    return plan_gates.estimated_agreement(spec, found, between, pages)


def _agreement(conn: Connection, spec: Spec, info: TableInfo, by: Rules) -> Gate:
    already = compare_all(conn, spec, info, by, None)
    drifted = count_drifted(conn, spec, info, by) if already.different else 0
    unknown = undated(conn, spec) if already.different else ""
    return plan_gates.agreement(spec, already, drifted, unknown)
