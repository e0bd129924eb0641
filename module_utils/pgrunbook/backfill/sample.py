# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows before and after, as a person reads them. Only reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import TableInfo, conversion, page_ranges
from ..catalog.page_ranges import PageRange
from ..core import printable
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.sql import comma, name
from .eligibility import (
    eligible,
    joined,
    key_parts,
    matches,
    random_order,
    source_query,
    values,
)
from .equality import Rules, stored


@dataclass(frozen=True)
class SampledRow:
    """A row that is to be filled: its key, and by the phase's columns the values that it has and is
    to have, all as the server writes them."""

    key: list[str]
    before: dict[str, str | None]
    after: dict[str, str | None]


def sample(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    by: Rules,
    rows: int,
    among: Sequence[PageRange] = (),
) -> list[SampledRow]:
    """Up to that many eligible rows at random, of the whole table, or among those of some pages.
    The values afterwards are as they will be stored."""
    query = partial(_sampling, spec, info, by, rows)
    if among:
        found = conn.execute(query(page_ranges.rows_of(info, among)), ()).fetchall()
    else:
        found = page_ranges.first(conn, spec.table, info, query, "place", rows, spec.workers)
    return [
        SampledRow(
            row["key"],
            {c.name: row[f"b{n}"] for n, c in enumerate(spec.columns)},
            {c.name: row[f"a{n}"] for n, c in enumerate(spec.columns)},
        )
        for row in found
    ]


def _sampling(spec: Spec, info: TableInfo, by: Rules, most: int, of: Composable) -> Composed:
    """The query that gives the first eligible rows of some, at random places."""
    names = catalog.present_names(spec, info)
    before = [
        SQL("t.{}::text AS {}").format(name(names[c.name]), name(f"b{n}"))
        for n, c in enumerate(spec.columns)
    ]
    held = conversion.held(spec, info.types)
    after = [
        SQL("coalesce({}::text, {}) AS {}").format(
            held[c.name].filled, stored(c, value, by), name(f"a{n}")
        )
        for n, (c, value) in enumerate(zip(spec.columns, values(spec, held), strict=True))
    ]
    return SQL(
        "SELECT ARRAY[{keys}] AS key, {values}, {order} AS place FROM {of} t"
        " {join} ({source}) s ON {matches} WHERE {eligible} ORDER BY place LIMIT {most}"
    ).format(
        keys=comma(SQL("({})::text").format(part) for part in key_parts(spec)),
        values=comma([*before, *after]),
        order=random_order(spec),
        of=of,
        join=joined(held),
        source=source_query(spec),
        matches=matches(spec),
        eligible=eligible(spec, held),
        most=Literal(most),
    )


def sample_text(rows: Sequence[SampledRow]) -> str:
    """Rows before (-) and after (+), in pairs."""
    lines = []
    for row in rows:
        key = ", ".join(printable.line(part) for part in row.key)
        lines += [f"- {key}: {_values(row.before)}", f"+ {key}: {_values(row.after)}"]
    return "\n".join(lines)


def _values(given: dict[str, str | None]) -> str:
    return " ".join(
        f"{printable.line(k)}={'NULL' if v is None else printable.line(v)}"
        for k, v in given.items()
    )
