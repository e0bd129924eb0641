# SPDX-License-Identifier: GPL-3.0-or-later
"""How much room pages have: the share of the backfill's updates that can be heap-only. Only reads.

It is an estimate, shown and never hashed; the report compares it with what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import BLOCK_BYTES, TableInfo, conversion
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.sql import comma, name, table
from . import eligibility
from .equality import Rules, cast
from .strategy import LINE_POINTERS, Strategy

SAMPLED_PAGES = 40
PAGE_HEADER_BYTES, LINE_POINTER_BYTES = 24, 4  # PostgreSQL's documentation, "Page Layout"
ALIGNED_TO_BYTES = 8
LEAST_KEPT_FREE_BYTES = BLOCK_BYTES // 10
TOAST_BYTES, TOAST_POINTER_BYTES = 2000, 18  # a longer value is stored outside, behind a pointer


@dataclass(frozen=True)
class Row:
    """A row on its page: its line pointer, and how many bytes it takes now and once it is filled,
    its line pointer apart; filled is None where it gains nothing."""

    pointer: int
    now: int
    filled: int | None


def heap_only_percent(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, strategy: Strategy
) -> float | None:
    """The share of the updates that is expected to be heap-only, in per cent, as long as no
    transaction keeps dead rows from being pruned; None where the sample has no row to be filled.

    An update is heap-only where no index is on what it changes and its new row version fits into
    its page (src/backend/access/heap/README.HOT). About SAMPLED_PAGES pages are read, each row's
    size as it is and with its values from the source, and each page is taken through the passes of
    the strategy by passes_over().
    """
    if strategy.passes == 1 and _indexed(conn, spec, info):
        return 0.0
    kept_free = _kept_free(conn, info)
    pages = list(_sampled(conn, spec, info, by))
    updates = sum(row.filled is not None for _, rows in pages for row in rows)
    heap_only = sum(passes_over(rows, strategy.passes, kept_free[leaf]) for leaf, rows in pages)
    return round(heap_only * 100 / updates, 1) if updates else None


def passes_over(rows: Sequence[Row], passes: int, kept_free: int = LEAST_KEPT_FREE_BYTES) -> int:
    """How many rows of a page are updated on it, which holds those rows and nothing else.

    The page has free = 8192 - 24 - 4 * (line pointers) - (the rows' sizes) bytes at first. A row
    stays where free >= its new size + 4, which it takes, and there is a line pointer left; else
    the page is marked as full. Its old version is dead in either case. A pass that finds the page
    marked, or less than kept_free bytes free, prunes it first, which gives the sizes of dead
    versions back, without their line pointers (heap_page_prune_opt() in
    src/backend/access/heap/pruneheap.c).
    """
    pointers = max((row.pointer for row in rows), default=0)
    free = BLOCK_BYTES - PAGE_HEADER_BYTES - LINE_POINTER_BYTES * pointers
    free -= sum(row.now for row in rows)
    stayed = dead = 0
    full = False
    for number in range(passes):
        if full or free - LINE_POINTER_BYTES < kept_free:
            free, dead, full = free + dead, 0, False
        for row in rows:
            if row.filled is None or (row.pointer - 1) % passes != number:
                continue
            dead += row.now
            needed = row.filled + LINE_POINTER_BYTES
            if free >= needed and pointers < LINE_POINTERS:
                stayed, pointers, free = stayed + 1, pointers + 1, free - needed
            else:
                full = True
    return stayed


def _indexed(conn: Connection, spec: Spec, info: TableInfo) -> bool:
    """Whether an index that stays is on one of the columns to be filled."""
    filled = catalog.present_names(spec, conversion.foreseen(spec, info)).values()
    found = [info.indexes.get(index) for index in catalog.indexes_on(conn, info, filled)]
    return any(index is None or index.valid for index in found)


def _kept_free(conn: Connection, info: TableInfo) -> dict[int, int]:
    """For each leaf, by its oid, with how many free bytes a page is still not pruned: what its
    fillfactor keeps free, and a tenth of the page at least."""
    query = (
        "SELECT c.oid::int8 AS leaf, greatest(%s, coalesce((SELECT %s * (100 - o.option_value::int)"
        " / 100 FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = 'fillfactor'), 0))"
        " AS bytes FROM pg_class c WHERE c.oid = ANY (%s::oid[])"
    )
    leaves = [leaf.oid for leaf in info.leaves]
    rows = conn.execute(query, (LEAST_KEPT_FREE_BYTES, BLOCK_BYTES, leaves))
    return {row["leaf"]: row["bytes"] for row in rows}


def _sampled(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules
) -> Iterator[tuple[int, list[Row]]]:
    """The rows of each page of a sample of the table, with the oid of the leaf that it is of."""
    share = min(SAMPLED_PAGES / max(info.pages, 1), 1.0)
    held = conversion.held(spec, info.types)
    query = SQL(
        "SELECT t.tableoid::int8 AS leaf, (t.ctid::text::point)[0]::int8 AS page,"
        " (t.ctid::text::point)[1]::int4 AS pointer, {now} AS now,"
        " CASE WHEN {eligible} THEN {filled} END AS filled"
        " FROM {table} t TABLESAMPLE SYSTEM ({percent}) REPEATABLE ({seed})"
        " LEFT JOIN ({source}) s ON {matches} ORDER BY 1, 2, 3"
    ).format(
        now=_bytes([SQL("t.{}").format(name(column)) for column in info.columns]),
        eligible=eligibility.eligible(spec, held),
        filled=_bytes(_filled(spec, info, by)),
        table=table(spec.table),
        percent=Literal(100 * share),
        seed=Literal(spec.sample_seed),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
    )
    rows = conn.execute(query, ()).fetchall()
    for (leaf, _), found in groupby(rows, lambda row: (row["leaf"], row["page"])):
        yield leaf, [Row(row["pointer"], row["now"], row["filled"]) for row in found]


def _filled(spec: Spec, info: TableInfo, by: Rules) -> list[Composable]:
    """What a row consists of once it is filled, in the order of its columns."""
    values = {
        c.name: cast(c, value, by)
        for c, value in zip(
            spec.columns,
            eligibility.values(spec, conversion.held(spec, info.types)),
            strict=True,
        )
    }
    converted = [each.column.name for each in conversion.pending(spec, info)]
    present = catalog.present_names(spec, info)
    fills = {present[column]: values[column] for column in values if column not in converted}
    parts = [
        SQL("coalesce(t.{}, {})").format(name(c), fills[c])
        if c in fills
        else SQL("t.{}").format(name(c))
        for c in info.columns
    ]
    return [*parts, *(values[column] for column in converted)]


def _bytes(parts: Sequence[Composable]) -> Composed:
    """The size of a row version of these values on its page. As ROW() makes a row of them it is
    aligned and has its header as in the table; what is stored outside is left out of it, and
    counted as a pointer."""
    outside = [
        SQL("(pg_column_size({}) > {})").format(part, Literal(TOAST_BYTES)) for part in parts
    ]
    inside = [
        SQL("CASE WHEN {} THEN NULL ELSE {} END").format(long, part)
        for long, part in zip(outside, parts, strict=True)
    ]
    pointers = SQL(" + ").join(
        SQL("CASE WHEN {} THEN {} ELSE 0 END").format(long, Literal(TOAST_POINTER_BYTES))
        for long in outside
    )
    return SQL("(pg_column_size(ROW({row})) + {pointers} + {up}) / {to} * {to}").format(
        row=comma(inside),
        pointers=pointers,
        up=Literal(ALIGNED_TO_BYTES - 1),
        to=Literal(ALIGNED_TO_BYTES),
    )
