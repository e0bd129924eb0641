# SPDX-License-Identifier: GPL-3.0-or-later
"""The post-run validation: a phase's gates, measured on any day after its run. Only reads; needs
neither run, approval nor ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog, ledger
from ..backfill import eligibility, refused_rows
from ..catalog import Server, conversion, page_ranges
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.sql import literals
from ..ledger import integrity
from . import alterations, data_gates, registry
from .gate import Gate, judge
from .old_name import old_name
from .orphans import count_rows, orphans_gate
from .preflight import connectivity

MAX_LOOKED_AT_TWICE = 10_000  # rows; more than these are no handful that has just arrived
LONGEST_PAUSE = 20.0  # seconds; the server ends a transaction that idles for a minute


@dataclass(frozen=True, kw_only=True)
class PostRunGates(data_gates.DataGates):
    """What the post-run validation found: the data gates with those on the server, both tables and
    the journals; and the newest run of the phase."""

    server: Server
    run: ledger.Latest | None


def validate(
    conn: Connection, spec: Spec, *, unfilled_max: int, grace_seconds: float
) -> PostRunGates:
    """Measure the gates, where no more than unfilled_max rows may be left that the source could
    fill.

    Rows that the newest run has set aside are left out. A row counts when it can be filled at two
    looks, grace_seconds apart: what fills new rows has had that long. There is no second look where
    the first one finds few enough, or more than MAX_LOOKED_AT_TWICE.
    """
    measured = data_gates.validate(conn, spec)
    server, counts = catalog.inspect_server(conn), count_rows(conn, spec)
    unfilled = _unfilled(conn, spec, measured.counts, unfilled_max, grace_seconds)
    return PostRunGates(
        schema=measured.schema,
        counts=measured.counts,
        checks=(
            connectivity(spec, "the server answers", server, counts),
            orphans_gate(spec, counts),
            *old_name(conn, spec, catalog.inspect(conn, spec.table)),
            *(unfilled if gate.id == unfilled.id else gate for gate in measured.checks),
            *([_journals(conn, spec)] if ledger.exists(conn) else []),
        ),
        server=server,
        run=ledger.latest(conn, spec.phase, str(spec.table)),
    )


def _journals(conn: Connection, spec: Spec) -> Gate:
    """The gate on the journals of all runs in the database, against the events."""
    found = integrity.compare(conn)
    said = alterations.of_journals((*found.altered, *found.gone, *found.forgotten, *found.unknown))
    return judge(
        spec,
        registry.JOURNAL,
        target="each as the events recorded it",
        measured=" ".join(said) or "as the events recorded them",
        passed=not found.altered,
    )


def _unfilled(
    conn: Connection, spec: Spec, counts: data_gates.RowsNow, most: int, grace_seconds: float
) -> Gate:
    """The gate on rows that could be filled, which is enforced by default on a later day."""
    refused = counts.rows_refused
    at_first = left = counts.left
    looked_twice = most < at_first <= MAX_LOOKED_AT_TWICE
    if looked_twice:
        left = _still_unfilled(conn, spec, grace_seconds)
    measured = (
        f"{left:,} of {at_first:,}, after {grace_seconds:g} s" if looked_twice else f"{left:,}"
    )
    return judge(
        spec,
        replace(registry.REMAINING, default=registry.ENFORCE),
        target=f"≤ {most:,}, at two looks {grace_seconds:g} s apart",
        measured=measured + (f", and {data_gates.set_aside(refused)}" if refused else ""),
        passed=left <= most,
        evidence={
            "at_first": at_first,
            "unfilled": left,
            "refused": refused,
            **counts.rows_skipped,
        },
    )


def _still_unfilled(conn: Connection, spec: Spec, grace_seconds: float) -> int:
    """How many of the rows that can be filled now still can in that many seconds."""
    info = catalog.inspect(conn, spec.table)
    aside = refused_rows.of_newest_run(conn, spec)
    unfilled = partial(_eligible_keys, spec, conversion.held(spec, info.types), aside)

    def looking(rows: Composable) -> Composed:
        return SQL("{} LIMIT {}").format(unfilled(rows), Literal(MAX_LOOKED_AT_TWICE))

    first = page_ranges.some(conn, spec.table, info, looking, MAX_LOOKED_AT_TWICE)
    keys = literals(row["key"] for row in first)
    _wait(conn, grace_seconds)

    def counting(rows: Composable) -> Composed:
        return SQL("SELECT count(*) AS n FROM ({}) u WHERE key = ANY ({}::text[])").format(
            unfilled(rows), keys
        )

    count: int = page_ranges.summed(conn, spec.table, info, counting, spec.workers)["n"]
    return count


def _eligible_keys(
    spec: Spec, held: Mapping[str, conversion.Held], aside: Composable | None, rows: Composable
) -> Composed:
    return SQL(
        "SELECT jsonb_build_array({keys})::text AS key FROM {rows} t {join} ({source}) s"
        " ON {matches} WHERE {eligible} AND NOT {aside}"
    ).format(
        aside=aside or SQL("false"),
        join=eligibility.joined(held),
        keys=eligibility.identity(spec),
        rows=rows,
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        eligible=eligibility.eligible(spec, held),
    )


def _wait(conn: Connection, seconds: float) -> None:
    """Wait without a snapshot, which would hold back the xmin horizon, and without idling so long
    that the server ends the transaction."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LONGEST_PAUSE))
        conn.execute("SELECT")
