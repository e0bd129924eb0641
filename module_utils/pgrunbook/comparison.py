# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the query on the filled columns really faster than the one that it replaces?"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from . import catalog, conversion, volatile
from .catalog import TableInfo
from .checks import check
from .connection import Connection, one
from .errors import RunbookError, reason
from .obstacles import Obstacles
from .proposal import described, megabytes, on_columns, proposals
from .spec import Query, Spec
from .sql import filled_in, table

DIFFERENT = "DIFFERENT RESULTS"
WARM_CACHE_TIME_RATIO = 2.0  # the least speed-up in time where buffers decide (DESIGN §7)


def compile(spec: Spec, columns: Mapping[str, Composable], query: str) -> Composed:
    """The query with {table}, {source} and the phase's {column}s filled in, as
    conversion.readable() gives them.

    Raises RunbookError where a placeholder is none of these.
    """
    values = {
        "table": table(spec.table),
        "source": table(spec.source),
        **columns,
    }
    try:
        return filled_in(query.rstrip("; \n"), values)
    except ValueError as error:
        raise RunbookError(
            f"The query {query!r} has a placeholder that cannot be filled ({error}). Next step: "
            f"use {', '.join(f'{{{v}}}' for v in values)}, and double any other brace."
        ) from None


def require_sound_queries(conn: Connection, spec: Spec, info: TableInfo) -> list[str]:
    """Have the server plan each query. Returns the volatile functions that they call, all of which
    are acknowledged.

    Raises RunbookError with those that are wrong, would write, or call a volatile function that is
    not acknowledged, naming them.
    """
    columns = conversion.readable(spec, info.types)
    obstacles = Obstacles(conn)
    found: set[str] = set()
    for query in spec.queries:
        for side in (query.snapshot, query.baseline):
            found |= obstacles.checked(_sound, conn, spec, columns, query, side) or set()
    obstacles.require_none()
    return sorted(found)


def _sound(
    conn: Connection, spec: Spec, columns: Mapping[str, Composable], query: Query, side: str
) -> set[str]:
    """The volatile functions that one side of a pair calls. Raises as require_sound_queries()."""
    compiled = compile(spec, columns, side)
    if '"ModifyTable"' in json.dumps(_planned(conn, query, compiled)):
        raise RunbookError(
            f"Query {query.name!r} would write: {side} "
            "Next step: correct it in phase_queries, which only compares what is read."
        )
    _planned(conn, query, _as_text(0, compiled))
    said = f"Query {query.name!r} cannot be measured"
    return volatile.acknowledged(conn, spec, compiled, said)


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
    require_sound_queries(conn, spec, info)
    if not measure:
        return {"changed": False, "pairs": [], "checks": []}
    measured = [measure_pair(conn, spec, info, query) for query in spec.queries]
    missed = [not met(spec, pair)[0] for pair in measured]
    found = proposals(conn, spec, info, names) if any(missed) else [None] * len(measured)
    pairs = [
        {**pair, "proposal": proposal if miss else None}
        for pair, miss, proposal in zip(measured, missed, found, strict=True)
    ]
    return {"changed": False, "pairs": pairs, "checks": judge(spec, pairs)}


def judge(spec: Spec, pairs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gate of each query, from its pair as compare() has it, a trial's result included."""
    return [_check(spec, query, pair) for query, pair in zip(spec.queries, pairs, strict=True)]


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


def met(spec: Spec, pair: dict[str, Any]) -> tuple[bool, str]:
    """Whether a pair that was measured meets the phase's speed-up, and which half decided."""
    return decide(
        time_ratio=pair["time_ratio"],
        buffer_ratio=pair["buffer_ratio"],
        read_from_outside=pair["read_from_outside"],
        speedup_min=spec.speedup_min,
    )


def measure_pair(conn: Connection, spec: Spec, info: TableInfo, query: Query) -> dict[str, Any]:
    """Both queries of a pair, measured as compare() says, and whether their results are equal."""
    columns = conversion.readable(spec, info.types)
    compiled = {
        "snapshot": compile(spec, columns, query.snapshot),
        "baseline": compile(spec, columns, query.baseline),
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


def _check(spec: Spec, query: Query, pair: dict[str, Any]) -> dict[str, Any]:
    passed, decided_by = met(spec, pair)
    proposal = f". {_proposed(spec, pair['proposal'])}" if pair["proposal"] else ""
    return check(
        f"query:{query.name}",
        f"Query speed-up: {query.name}",
        test=5,
        target=f"equal results, ≥ {spec.speedup_min:g} × faster, or from a warm cache "
        f"≥ {spec.speedup_min:g} × fewer buffers and ≥ {WARM_CACHE_TIME_RATIO:g} × faster"
        + ("" if query.enforce else " (not enforced)"),
        measured=f"{_figures(pair)}; decided by {decided_by}{proposal}",
        passed=passed and pair["equal"],
        enforce=query.enforce or not pair["equal"],
        evidence=pair,
    )


def _figures(pair: dict[str, Any]) -> str:
    equal = "equal results" if pair["equal"] else DIFFERENT
    return (
        f"{pair['time_ratio']} × in time ({pair['snapshot']['ms']['median']} against "
        f"{pair['baseline']['ms']['median']} ms), {pair['buffer_ratio']} × in buffers, {equal}"
    )


def _proposed(spec: Spec, proposal: dict[str, Any]) -> str:
    """The index that would serve a query in a sentence or two: as estimated, or as tried."""
    tried = proposal.get("tried")
    if not tried:
        return described(proposal)
    index = f"index {on_columns(proposal)}, built in {tried['seconds']:g} s"
    index += f", {megabytes(tried['bytes'])}"
    if not tried["kept"]:
        meets = "it meets the target" if tried["met"] else "it misses the target all the same"
        decided_by = met(spec, tried)[1]
        return (
            f"With an {index}, and dropped again: {_figures(tried)}; decided by {decided_by}: "
            f"{meets}"
        )
    without = tried["without"]
    return (
        f"The {index}, was kept. Without it: {without['time_ratio']} × in time, "
        f"{without['buffer_ratio']} × in buffers. {_to_phase_indexes(proposal)}"
    )


def _to_phase_indexes(proposal: dict[str, Any]) -> str:
    """What a person does about an index that was kept; phase_indexes knows no INCLUDE."""
    if not proposal["include"]:
        columns = ", ".join(proposal["columns"])
        entry = f"{{name: {proposal['name']}, columns: [{columns}]}}"
        return f"Put it into phase_indexes: {entry}"
    columns = ", ".join([*proposal["columns"], *proposal["include"]])
    return (
        f"Put an index on ({columns}) into phase_indexes, which knows no INCLUDE, and drop "
        f"{proposal['name']} once that is built"
    )


def _planned(conn: Connection, query: Query, side: Composed) -> list[dict[str, Any]]:
    explain = SQL("EXPLAIN (FORMAT JSON) {}").format(side)
    try:
        return conn.execute(explain, (), binary=True).fetchall()
    except psycopg.Error as error:
        raise RunbookError(
            f"Query {query.name!r} is wrong: {reason(error)}. "
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
