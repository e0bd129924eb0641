# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the query on the filled columns really faster than the one that it replaces?"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed

from . import catalog
from .checks import check
from .connection import Connection
from .errors import RunbookError
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
        return text(query).format(**values)
    except (KeyError, ValueError, IndexError) as error:
        raise RunbookError(
            f"The query {query!r} has a placeholder that cannot be filled ({error}). Next step: "
            f"use {', '.join(f'{{{v}}}' for v in values)}, and double any other brace."
        ) from None


def require_sound_queries(conn: Connection, spec: Spec, names: dict[str, str]) -> None:
    """Have the server plan each query. Raises RunbookError where one is wrong, naming it."""
    for query in spec.queries:
        for side in (query.snapshot, query.baseline):
            try:
                conn.execute(SQL("EXPLAIN {}").format(compile(spec, names, side)), (), prepare=True)
            except psycopg.Error as error:
                raise RunbookError(
                    f"Query {query.name!r} is wrong: {error.diag.message_primary}. "
                    "Next step: correct it in phase_queries."
                ) from None


def compare(conn: Connection, spec: Spec, *, measure: bool) -> dict[str, Any]:
    """Measure each pair of queries, the two in turn, and judge it by decide().

    Times are in milliseconds; the median of spec.repetitions runs counts, the first pair of runs,
    which warms the cache, does not. Without measure the server only plans the queries.
    """
    names = catalog.present_names(spec, catalog.inspect(conn, spec.table))
    require_sound_queries(conn, spec, names)
    if not measure:
        return {"changed": False, "pairs": [], "checks": []}
    pairs = [_measure(conn, spec, names, query) for query in spec.queries]
    return {
        "changed": False,
        "pairs": pairs,
        "checks": [_check(spec, q, p) for q, p in zip(spec.queries, pairs, strict=True)],
    }


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
    snapshot = compile(spec, names, query.snapshot)
    baseline = compile(spec, names, query.baseline)
    times: tuple[list[float], list[float]] = ([], [])
    results = (_timed(conn, snapshot)[1], _timed(conn, baseline)[1])
    for _ in range(spec.repetitions):
        times[0].append(_timed(conn, snapshot)[0])
        times[1].append(_timed(conn, baseline)[0])
    sides = {
        side: {"ms": _spread(times[n]), **_explained(conn, compiled)}
        for n, (side, compiled) in enumerate((("snapshot", snapshot), ("baseline", baseline)))
    }
    ours, theirs = sides["snapshot"], sides["baseline"]
    return {
        "name": query.name,
        "equal": _comparable(results[0]) == _comparable(results[1]),
        "rows": len(results[0]),
        "time_ratio": round(theirs["ms"]["median"] / max(ours["ms"]["median"], 0.001), 2),
        "buffer_ratio": round(theirs["buffers"] / max(ours["buffers"], 1), 2),
        "read_from_outside": ours["read"] + theirs["read"] > 0,
        **sides,
    }


def _check(spec: Spec, query: Query, pair: dict[str, Any]) -> dict[str, Any]:
    passed, decided_by = decide(
        time_ratio=pair["time_ratio"],
        buffer_ratio=pair["buffer_ratio"],
        read_from_outside=pair["read_from_outside"],
        speedup_min=spec.speedup_min,
    )
    equal = "equal results" if pair["equal"] else "DIFFERENT RESULTS"
    return check(
        f"query:{query.name}",
        f"Query speed-up: {query.name}",
        test=5,
        target=f"≥ {spec.speedup_min:g} × faster, equal results",
        measured=f"{pair['time_ratio']} × in time ({pair['snapshot']['ms']['median']} against "
        f"{pair['baseline']['ms']['median']} ms), {pair['buffer_ratio']} × in buffers, {equal}; "
        f"decided by {decided_by}",
        passed=passed and pair["equal"],
        enforce=query.enforce,
        evidence=pair,
    )


def _timed(conn: Connection, query: Composed) -> tuple[float, list[tuple[Any, ...]]]:
    started = time.perf_counter()
    rows = [tuple(row.values()) for row in conn.execute(query, ())]
    return (time.perf_counter() - started) * 1000, rows


def _explained(conn: Connection, query: Composed) -> dict[str, Any]:
    explain = SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {}").format(query)
    row = conn.execute(explain, ()).fetchone()
    assert row is not None
    plan = row["QUERY PLAN"][0]["Plan"]
    hit, read = plan["Shared Hit Blocks"], plan["Shared Read Blocks"]
    return {"buffers": hit + read, "read": read, "plan": plan}


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def _comparable(rows: list[tuple[Any, ...]]) -> list[str]:
    return sorted(json.dumps(row, default=str) for row in rows)
