# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run of a query takes, as the server reports it: time, processor time and buffers.

A parallel query borrows other processors, which on a busy server are not idle, so its time alone
does not tell what it costs. EXPLAIN tells how long each worker was at it only when it times every
node of the plan, which makes the query slower. So a run that had workers is followed by one that is
timed so, from which only a share is taken: the time of the workers, divided by that of the query.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composed

from ..core.connection import Connection, one

MEASURED = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON"
TIMED = "ANALYZE, VERBOSE, TIMING ON, FORMAT JSON"  # without VERBOSE, JSON has no workers
GATHERING = ("Gather", "Gather Merge")


@dataclass(frozen=True)
class Measured:
    """One run of a query. ms is planning plus execution, processor_ms the same summed over the
    leader and its workers, both in milliseconds; workers is how many were launched; buffers are
    shared buffers hit and read, and read those of them that came from outside, both in blocks."""

    ms: float
    processor_ms: float
    workers: int
    buffers: int
    read: int
    plan: dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Values of several runs, in milliseconds."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Side:
    """All runs of one query: the median of buffers, and the most that one run read; the last run's
    workers and plan."""

    ms: Spread
    processor_ms: Spread
    workers: int
    buffers: int
    read: int
    plan: dict[str, Any]


def measured(conn: Connection, query: Composed) -> Measured:
    """Run a query, twice where it has parallel workers.

    The leader counts from the first to the last moment, also while it waits for its workers; a
    worker, while it is in the nodes below its Gather, so that its start is not in it.
    """
    explained = _explained(conn, MEASURED, query)
    plan, ms = explained["Plan"], explained["Execution Time"]
    workers = sum(node["Workers Launched"] for node in _gathering(plan))
    others = 0.0
    if workers:
        timed = _explained(conn, TIMED, query)
        others = ms * worker_ms(timed["Plan"]) / max(timed["Execution Time"], 0.001)
    return Measured(
        ms=explained["Planning Time"] + ms,
        processor_ms=explained["Planning Time"] + ms + others,
        workers=workers,
        buffers=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        read=plan["Shared Read Blocks"],
        plan=plan,
    )


def worker_ms(plan: dict[str, Any]) -> float:
    """The milliseconds of all workers of a plan that EXPLAIN (ANALYZE, VERBOSE, TIMING ON) gave.

    The node right below a Gather is the whole work of a worker. What EXPLAIN gives for the node
    itself is the leader and all workers together, and its times are means of a loop; each entry of
    its Workers is one worker's, and its Actual Total Time is to be multiplied by its Actual Loops
    (ExplainNode() in src/backend/commands/explain.c). InitPlans of a Gather are the leader's.
    """
    below = [
        node
        for gather in _gathering(plan)
        for node in gather.get("Plans", ())
        if node["Parent Relationship"] == "Outer"
    ]
    found = [worker for node in below for worker in node.get("Workers", ())]
    return sum(float(worker["Actual Total Time"] * worker["Actual Loops"]) for worker in found)


def side(runs: Sequence[Measured]) -> Side:
    """All runs of a query, taken together."""
    return Side(
        ms=_spread([run.ms for run in runs]),
        processor_ms=_spread([run.processor_ms for run in runs]),
        workers=runs[-1].workers,
        buffers=round(statistics.median(run.buffers for run in runs)),
        read=max(run.read for run in runs),
        plan=runs[-1].plan,
    )


def _explained(conn: Connection, options: str, query: Composed) -> dict[str, Any]:
    explain = SQL("EXPLAIN ({}) {}").format(SQL(options), query)
    explained: dict[str, Any] = one(conn, explain, ())["QUERY PLAN"][0]
    return explained


def _gathering(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that have parallel workers below them; one that never ran launched
    none."""
    if node["Node Type"] in GATHERING and "Workers Launched" in node:
        yield node
    for inner in node.get("Plans", ()):
        yield from _gathering(inner)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(
        median=round(statistics.median(values), 3),
        min=round(min(values), 3),
        max=round(max(values), 3),
    )
