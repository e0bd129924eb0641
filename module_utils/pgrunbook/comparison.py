# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the query on the filled columns really faster than the one that it replaces?"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Literal

from . import catalog
from .checks import check
from .connection import Connection, one
from .errors import RunbookError
from .proposal import described, propose
from .spec import Query, Spec
from .sql import name, table, text

WARM_CACHE_TIME_RATIO = 2.0  # the least speed-up in time where buffers decide (DESIGN §7)


def compile(spec: Spec, names: dict[str, str], query: str) -> Composed:
    """The query with {table}, {source} and the phase's {column} names filled in, quoted.

    Raises RunbookError where a placeholder is none of these.
    """
    values = {
        "table": table(spec.table),
        "source": table(spec.source),
        **{column: name(present) for column, present in names.items()},
    }
    try:
        return text(query.rstrip("; \n")).format(**values)
    except (KeyError, ValueError, IndexError) as error:
        raise RunbookError(
            f"The query {query!r} has a placeholder that cannot be filled ({error}). Next step: "
            f"use {', '.join(f'{{{v}}}' for v in values)}, and double any other brace."
        ) from None


def require_sound_queries(conn: Connection, spec: Spec, names: dict[str, str]) -> None:
    """Have the server plan each query. Raises RunbookError where one is wrong or would write,
    naming it."""
    for query in spec.queries:
        for side in (query.snapshot, query.baseline):
            compiled = compile(spec, names, side)
            if '"ModifyTable"' in json.dumps(_planned(conn, query, compiled)):
                raise RunbookError(
                    f"Query {query.name!r} would write: {side} "
                    "Next step: correct it in phase_queries, which only compares what is read."
                )
            _planned(conn, query, _as_text(0, compiled))


def compare(conn: Connection, spec: Spec, *, measure: bool) -> dict[str, Any]:
    """Measure each pair of queries, the two in turn, and judge it by decide().

    Times are in milliseconds and what the server reports for planning and execution, so that
    neither the network nor the driver blurs the ratio; the median of spec.repetitions runs counts.
    A first run of each, whose results are compared, is not timed. A query that misses has a
    proposal: the index that would serve it, or None. Without measure the server only plans the
    queries.
    """
    info = catalog.inspect(conn, spec.table)
    names = catalog.present_names(spec, info)
    require_sound_queries(conn, spec, names)
    if not measure:
        return {"changed": False, "pairs": [], "checks": []}
    pairs, checks = [], []
    for query in spec.queries:
        pair = _measure(conn, spec, names, query)
        missed = not _decided(spec, pair)[0]
        pair["proposal"] = propose(conn, spec, info, names, query) if missed else None
        pairs.append(pair)
        checks.append(_check(spec, query, pair))
    return {"changed": False, "pairs": pairs, "checks": checks}


def decide(
    *, time_ratio: float, buffer_ratio: float, read_from_outside: bool, speedup_min: float
) -> tuple[bool, str]:
    """The speed-up gate's one rule (DESIGN §7): whether it passes, and which half decided.

    It passes on the median time; or, where no page came from outside shared buffers, so that time
    shows processor work only, on the buffers touched, if the time is at least halved.
    """
    if time_ratio >= speedup_min:
        return True, "time"
    if read_from_outside:
        return False, "time (pages were read from outside shared buffers)"
    passed = buffer_ratio >= speedup_min and time_ratio >= WARM_CACHE_TIME_RATIO
    return passed, "buffers (the cache was warm)"


def _measure(conn: Connection, spec: Spec, names: dict[str, str], query: Query) -> dict[str, Any]:
    compiled = {
        "snapshot": compile(spec, names, query.snapshot),
        "baseline": compile(spec, names, query.baseline),
    }
    results = _results(conn, list(compiled.values()))
    runs: dict[str, list[dict[str, Any]]] = {"snapshot": [], "baseline": []}
    for _ in range(spec.repetitions):
        for side, sql in compiled.items():
            runs[side].append(_explain(conn, sql))
    ours, theirs = _side(runs["snapshot"]), _side(runs["baseline"])
    return {
        "name": query.name,
        "equal": results[0] == results[1],
        "rows": len(results[0]),
        "time_ratio": round(theirs["ms"]["median"] / max(ours["ms"]["median"], 0.001), 2),
        "buffer_ratio": round(theirs["buffers"] / max(ours["buffers"], 1), 2),
        "read_from_outside": ours["read"] + theirs["read"] > 0,
        "snapshot": ours,
        "baseline": theirs,
    }


def _decided(spec: Spec, pair: dict[str, Any]) -> tuple[bool, str]:
    return decide(
        time_ratio=pair["time_ratio"],
        buffer_ratio=pair["buffer_ratio"],
        read_from_outside=pair["read_from_outside"],
        speedup_min=spec.speedup_min,
    )


def _check(spec: Spec, query: Query, pair: dict[str, Any]) -> dict[str, Any]:
    passed, decided_by = _decided(spec, pair)
    equal = "equal results" if pair["equal"] else "DIFFERENT RESULTS"
    proposal = f". {described(pair['proposal'])}" if pair["proposal"] else ""
    return check(
        f"query:{query.name}",
        f"Query speed-up: {query.name}",
        test=5,
        target=f"equal results, ≥ {spec.speedup_min:g} × faster, or from a warm cache "
        f"≥ {spec.speedup_min:g} × fewer buffers and ≥ {WARM_CACHE_TIME_RATIO:g} × faster"
        + ("" if query.enforce else " (not enforced)"),
        measured=f"{pair['time_ratio']} × in time ({pair['snapshot']['ms']['median']} against "
        f"{pair['baseline']['ms']['median']} ms), {pair['buffer_ratio']} × in buffers, {equal}; "
        f"decided by {decided_by}{proposal}",
        passed=passed and pair["equal"],
        enforce=query.enforce or not pair["equal"],
        evidence=pair,
    )


def _planned(conn: Connection, query: Query, side: Composed) -> list[dict[str, Any]]:
    explain = SQL("EXPLAIN (FORMAT JSON) {}").format(side)
    try:
        return conn.execute(explain, (), prepare=True).fetchall()
    except psycopg.Error as error:
        raise RunbookError(
            f"Query {query.name!r} is wrong: {error.diag.message_primary}. "
            "Next step: correct it in phase_queries."
        ) from None


def _results(conn: Connection, queries: Sequence[Composed]) -> list[list[str]]:
    """The rows of each query as text, sorted: their order does not matter.

    All are read in one statement, and so in one snapshot: a row that others insert between two
    queries is in the results of both or of neither.
    """
    together = SQL(" UNION ALL ").join(_as_text(n, query) for n, query in enumerate(queries))
    found = conn.execute(together, ()).fetchall()
    return [sorted(row["row"] for row in found if row["side"] == n) for n in range(len(queries))]


def _as_text(side: int, query: Composed) -> Composed:
    """Each row of a query as PostgreSQL writes it. A line break ends a trailing comment."""
    return SQL("SELECT {} AS side, ROW(q.*)::text AS row FROM (\n{}\n) q").format(
        Literal(side), query
    )


def _explain(conn: Connection, query: Composed) -> dict[str, Any]:
    explain = SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {}").format(query)
    explained: dict[str, Any] = one(conn, explain, ())["QUERY PLAN"][0]
    return explained


def _side(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Times over all runs, and the last run's plan and buffers; read is the most of any run."""
    times = [run["Planning Time"] + run["Execution Time"] for run in runs]
    plan = runs[-1]["Plan"]
    return {
        "ms": {
            "median": round(statistics.median(times), 3),
            "min": round(min(times), 3),
            "max": round(max(times), 3),
        },
        "buffers": plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        "read": max(run["Plan"]["Shared Read Blocks"] for run in runs),
        "plan": plan,
    }
