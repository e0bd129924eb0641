# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the query on the filled columns really faster than the one that it replaces?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import TableInfo, conversion, volatile
from ..core.connection import Connection
from ..core.errors import RunbookError, reason
from ..core.obstacles import Obstacles
from ..core.reconnect import raise_if_lost
from ..core.spec import Query, Spec
from ..core.sql import filled_in, table
from ..core.values import plain
from ..ddl.index_advice import advise, entry, estimated, megabytes
from ..ddl.index_sql import described
from . import bootstrap, processor_time, registry
from .gate import Gate, judge, wanted
from .query_pair import (
    WARM_CACHE_PROCESSOR_RATIO,
    Advice,
    Measurement,
    QueryPair,
    decide,
    in_words,
    met,
    times,
)

DIFFERENT = "DIFFERENT RESULTS"
LEAST_REPETITIONS = 6  # of fewer values a median has no 95 % interval: 2 * 0.5 ** 5 > 0.05
MAX_TIMES = 10  # as many repetitions, where it is too close to call
LONGEST_MORE_SECONDS = 60.0  # of the repetitions beyond those that the phase asks for
LEAST_MS, LEAST_BUFFERS = 0.001, 1  # what a query takes at least, to divide by


@dataclass(frozen=True)
class QueryGates:
    """The pairs of the phase, measured, and the gate of each; empty where nothing was measured."""

    pairs: tuple[QueryPair, ...] = ()
    checks: tuple[Gate, ...] = ()
    changed: bool = False


Runs = tuple[processor_time.Measured, processor_time.Measured]
"""Of the query on the filled columns and of the one that it replaces, one after the other."""


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
    if '"ModifyTable"' in _plan(conn, query, compiled):
        raise RunbookError(
            f"Query {query.name!r} would write: {side} "
            "Next step: correct it in phase_queries, which only compares what is read."
        )
    _plan(conn, query, _as_text(0, compiled))
    said = f"Query {query.name!r} cannot be measured"
    return volatile.acknowledged(conn, spec, compiled, said)


def compare(conn: Connection, spec: Spec, *, measure: bool) -> QueryGates:
    """Measure each pair of queries, and judge it. A query that misses has index advice, where an
    index would serve it. Without measure the server only plans the queries."""
    info = catalog.inspect(conn, spec.table)
    names = catalog.present_names(spec, info)
    require_sound_queries(conn, spec, info)
    if not measure:
        return QueryGates()
    pairs = [measure_pair(conn, spec, info, query) for query in spec.queries]
    missed = [not met(spec, pair)[0] for pair in pairs]
    advice = advise(conn, spec, info, names) if any(missed) else [None] * len(pairs)
    pairs = [
        replace(pair, proposal=Advice(**vars(index))) if miss and index else pair
        for pair, miss, index in zip(pairs, missed, advice, strict=True)
    ]
    return QueryGates(tuple(pairs), gates(spec, pairs))


def measure_pair(conn: Connection, spec: Spec, info: TableInfo, query: Query) -> QueryPair:
    """Both queries of a pair, measured in turn, and whether their results are equal.

    A first run of each, whose results are compared, is not measured. Then they run spec.repetitions
    times, but LEAST_REPETITIONS at least; and twice as often again and again as long as decide()
    finds it too close to call, but no more than MAX_TIMES as often and for LONGEST_MORE_SECONDS.
    """
    columns = conversion.readable(spec, info.types)
    sides = [compile(spec, columns, side) for side in (query.snapshot, query.baseline)]
    results = _results(conn, sides)
    wanted = max(spec.repetitions, LEAST_REPETITIONS)
    runs = [_in_turn(conn, sides) for _ in range(wanted)]
    pair = _pair(query.name, results, runs)
    until = time.monotonic() + LONGEST_MORE_SECONDS
    while decide(pair, spec.speedup_min)[0] is None and len(runs) < wanted * MAX_TIMES:
        more = min(len(runs), wanted * MAX_TIMES - len(runs))
        runs += [_in_turn(conn, sides) for _ in range(more) if time.monotonic() < until]
        pair = _pair(query.name, results, runs)
        if time.monotonic() >= until:
            break
    return pair


def _in_turn(conn: Connection, sides: Sequence[Composed]) -> Runs:
    ours, theirs = (processor_time.measured(conn, side) for side in sides)
    return ours, theirs


def _pair(name: str, results: Sequence[Sequence[str]], runs: Sequence[Runs]) -> QueryPair:
    """The pair, from the rows of both results and all runs; a ratio above 1 says that the query on
    the filled columns is better."""
    measures: dict[str, bootstrap.Pairs] = {
        "time": [(b.ms, max(a.ms, LEAST_MS)) for a, b in runs],
        "processor": [(b.processor_ms, max(a.processor_ms, LEAST_MS)) for a, b in runs],
        "buffer": [(b.buffers, max(a.buffers, LEAST_BUFFERS)) for a, b in runs],
    }
    ratios = {of: round(bootstrap.ratio(values), 2) for of, values in measures.items()}
    intervals = bootstrap.intervals(measures)
    return QueryPair(
        name=name,
        equal=results[0] == results[1],
        rows=len(results[0]),
        runs=len(runs),
        time_ratio=ratios["time"],
        processor_ratio=ratios["processor"],
        buffer_ratio=ratios["buffer"],
        time_interval=intervals["time"],
        processor_interval=intervals["processor"],
        buffer_interval=intervals["buffer"],
        seed=bootstrap.SEED,
        read_from_outside=any(a.read or b.read for a, b in runs),
        snapshot=processor_time.side([ours for ours, _ in runs]),
        baseline=processor_time.side([theirs for _, theirs in runs]),
    )


def gates(spec: Spec, pairs: Sequence[QueryPair]) -> tuple[Gate, ...]:
    """The gate of each query of the phase, in their order."""
    return tuple(gate(spec, query, pair) for query, pair in zip(spec.queries, pairs, strict=True))


def gate(spec: Spec, query: Query, pair: QueryPair, differ_because: str = "") -> Gate:
    """The gate of a query. Results that differ are a miss, and always enforced, unless rows that
    differ_because tells of account for that."""
    passed, decided = met(spec, pair)
    sound = pair.equal or bool(differ_because)
    results = "equal results" if pair.equal else DIFFERENT
    if differ_because and not pair.equal:
        results = f"results differ, because {differ_because}"
    advice = f". {_advised(spec, pair.proposal)}" if pair.proposal else ""
    target = (
        f"equal results, ≥ {spec.speedup_min:g} × faster, or from a warm cache "
        f"≥ {spec.speedup_min:g} × fewer buffers, ≥ {WARM_CACHE_PROCESSOR_RATIO:g} × less "
        "processor time and not slower"
    )
    return judge(
        spec,
        registry.QUERY.of_query(query.name, enforced=query.enforce or not sound),
        target=wanted(target, enforced=query.enforce or not sound),
        measured=f"{_figures(pair)}, {results}; {decided}{advice}",
        passed=passed and sound,
        evidence=plain(pair),
    )


def _figures(pair: Measurement) -> str:
    """The ratios as a person reads them; processor time is left out where no query had workers."""
    ours, theirs = (side.ms.median for side in (pair.snapshot, pair.baseline))
    time = times(pair.time_ratio, "faster", "slower", pair.time_interval)
    buffers = times(pair.buffer_ratio, "fewer buffers", "more buffers", pair.buffer_interval)
    processor_time = ""
    if pair.processor_interval != pair.time_interval:
        words = ("less processor time", "more processor time")
        processor_time = f"{times(pair.processor_ratio, *words, pair.processor_interval)}, "
    against = f"{milliseconds(ours)} against {milliseconds(theirs)} ms"
    return f"{time} ({against}), {processor_time}{buffers}"


def milliseconds(given: float) -> str:
    """Milliseconds as a person reads them, without the unit: 1,134, 17, 2.4, 0.31."""
    digits = 0 if given >= 10 else 1 if given >= 1 else 2
    return f"{given:,.{digits}f}"


def _advised(spec: Spec, advice: Advice) -> str:
    """The index that would serve a query in a sentence or two: as estimated, or as tried."""
    tried, in_yaml = advice.tried, entry(advice.index)
    if not tried:
        return f"{estimated(advice, advice.not_tried or '')}. In phase_indexes: {in_yaml}"
    on = described(advice.index)
    index = f"index {on}, built in {tried.seconds:g} s, {megabytes(tried.bytes)}"
    if tried.kept:
        return (
            f"The {index}, was kept. Without it: {in_words(tried.without)}. "
            f"Put it into phase_indexes: {in_yaml}"
        )
    meets = "it meets the target" if tried.met else "it misses the target all the same"
    results = "equal results" if tried.equal else DIFFERENT
    return (
        f"With an {index}, and dropped again: {_figures(tried)}, {results}; "
        f"{met(spec, tried)[1]}: {meets}. In phase_indexes: {in_yaml}"
    )


def _plan(conn: Connection, query: Query, side: Composed) -> str:
    """The server's plan of one side of a pair, as JSON."""
    explain = SQL("EXPLAIN (FORMAT JSON) {}").format(side)
    try:
        return json.dumps(conn.execute(explain, (), binary=True).fetchall())
    except psycopg.Error as error:
        raise_if_lost(error)
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
