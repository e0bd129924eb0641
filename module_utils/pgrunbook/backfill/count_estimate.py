# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts of a large table, estimated from some of its pages, with intervals of 95 %. Only reads.

The pages are a simple random sample without replacement, and the units of which the variance is
taken: rows on a page are more alike than rows of the whole table (Cochran, Sampling Techniques,
chapters 2, 6 and 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import sqrt

from psycopg.sql import SQL

from ..catalog import TableInfo, conversion, page_ranges
from ..catalog.page_ranges import NUMBER, PageRange, Row
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.sql import name
from .counting import Counts, Coverage, Estimated, Interval, of_sums, sums

SAMPLED_PAGES = 400  # 0.1 s in memory, and 4 s on a disk that takes 10 ms for a page
Z = 1.96  # standard errors on each side of an interval of 95 %
MILLION, SHOWN_DIGITS = 1_000_000, 3
NONE_OF = 3.0  # what none of n units has, at most 3 / n of all have, with 95 % confidence


@dataclass(frozen=True)
class Sampled:
    """Some pages of a table that has so many in all."""

    ranges: list[PageRange]
    pages: int


def sampled(spec: Spec, info: TableInfo) -> Sampled:
    """The pages that a plan of the phase is estimated from: the same seed gives the same ones."""
    ranges = page_ranges.random_pages(info, SAMPLED_PAGES, spec.sample_seed)
    return Sampled(ranges, info.pages)


def sampled_for(conn: Connection, spec: Spec, info: TableInfo, *, check: bool) -> Sampled | None:
    """The pages that are to be read in place of the whole table; None where all of it is. check is
    whether that is for a dry run."""
    wanted = spec.counts == "estimate" or (spec.counts == "auto" and check)
    return sampled(spec, info) if wanted and page_ranges.is_large(conn, info) else None


def estimate(conn: Connection, spec: Spec, info: TableInfo, of: Sampled) -> Counts | None:
    """What counting.count() would give, estimated. None where the pages have no row."""
    query = sums(spec, conversion.held(spec, info.types), page_ranges.rows_of(info, of.ranges))
    rows = conn.execute(SQL("{} GROUP BY t.{}").format(query, name(NUMBER)), ()).fetchall()
    return _scaled(spec, rows, of) if rows else None


def _scaled(spec: Spec, rows: Sequence[Row], of: Sampled) -> Counts:
    """The counts of the table, from the sums of each page that has rows."""

    def all_pages(number: int) -> int:
        return round(number * of.pages / len(of.ranges))

    def shares(which: str) -> dict[str, Interval]:
        return {
            c.name: share([row[f"{which}{n}"] for row in rows], wholes, of)
            for n, c in enumerate(spec.columns)
        }

    seen = of_sums(spec, reduce(page_ranges.added, rows))
    wholes = [row["total"] for row in rows]
    return Counts(
        all_pages(seen.rows_total),
        all_pages(seen.rows_eligible),
        {reason: all_pages(number) for reason, number in seen.rows_skipped.items()},
        {
            column: Coverage(
                each.before, each.after, {why: all_pages(n) for why, n in each.lacking.items()}
            )
            for column, each in seen.coverage.items()
        },
        Estimated(
            pages_read=len(of.ranges),
            pages=of.pages,
            rows_total=total(wholes, of),
            rows_eligible=total([row["eligible"] for row in rows], of),
            before=shares("now"),
            after=shares("after"),
        ),
    )


def total(values: Sequence[int], of: Sampled) -> Interval:
    """The interval of a sum over all pages, given that of each sampled page; pages that have none
    may be left out. It is not below what was seen, and allows for a table whose last page, unlike
    the others, is nearly empty."""
    n, pages = len(of.ranges), of.pages
    mean = sum(values) / n
    squares = sum((value - mean) ** 2 for value in values) + (n - len(values)) * mean**2
    error = Z * pages * sqrt((1 - n / pages) * squares / (n - 1) / n) + max(values)
    return max(round(mean * pages - error), sum(values)), round(mean * pages + error)


def share(parts: Sequence[int], wholes: Sequence[int], of: Sampled) -> Interval:
    """The interval of the ratio of two sums over all pages, in per cent, given both of each sampled
    page. It allows for what is rare and stands together, which may just be on none of them."""
    n, whole = len(of.ranges), sum(wholes)
    ratio = sum(parts) / whole
    squares = sum((y - ratio * x) ** 2 for y, x in zip(parts, wholes, strict=True))
    error = Z * sqrt((1 - n / of.pages) * squares * n / (n - 1)) / whole + NONE_OF / n
    low, high = max(ratio - error, 0.0), min(ratio + error, 1.0)
    return round(100 * low, 2), round(100 * high, 2)


def is_open(interval: Interval, threshold: float) -> bool:
    """Whether an interval leaves open on which side of a threshold, which counts as reached, the
    figure is."""
    return interval[0] < threshold <= interval[1]


def rounded(rows: float) -> str:
    """A number of rows to three digits, for a person: 1.67 million."""
    if rows >= MILLION:
        return f"{rows / MILLION:,.2f} million"
    digits = max(len(str(round(rows))) - SHOWN_DIGITS, 0)
    return f"{round(rows, -digits):,.0f}"


def between(interval: Interval, *, rows: bool = False) -> str:
    """An interval for a person: (95 %: 1.65 million to 1.69 million)."""
    low, high = (rounded(end) if rows else f"{end:g}" for end in interval)
    return f"(95 %: {low} to {high})"


def source(estimated: Estimated) -> str:
    """What counts are estimated from, for a person."""
    return f"estimated from {estimated.pages_read:,} of {estimated.pages:,} pages"
