# SPDX-License-Identifier: GPL-3.0-or-later
"""The speed-up gate's one rule, and the placeholders of its queries."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import Identifier

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Query
from ansible.module_utils.pgrunbook.core.sql import render
from ansible.module_utils.pgrunbook.gates import bootstrap, processor_time, query_gates
from ansible.module_utils.pgrunbook.gates.processor_time import Measured, Side, Spread
from ansible.module_utils.pgrunbook.gates.query_pair import QueryPair, decide, met
from tests.unit.conftest import parsed

Interval = tuple[float, float]


def pair(
    time: Interval = (6.0, 7.0),
    buffers: Interval = (1.0, 1.0),
    processor: Interval | None = None,
    *,
    outside: bool = False,
    equal: bool = True,
) -> QueryPair:
    """A pair as it is measured; its processor time is its time, as without workers."""
    spread = Spread(median=1.0, min=1.0, max=1.0)
    side = Side(ms=spread, processor_ms=spread, workers=0, buffers=10, read=0, plan={})
    return QueryPair(
        name="q",
        equal=equal,
        rows=1,
        runs=44,
        time_ratio=time[0],
        processor_ratio=(processor or time)[0],
        buffer_ratio=buffers[0],
        time_interval=time,
        processor_interval=processor or time,
        buffer_interval=buffers,
        seed=7,
        read_from_outside=outside,
        snapshot=side,
        baseline=side,
    )


QUERY = {"name": "q", "snapshot": "", "baseline": "", "enforce": True}
OUTSIDE = "time (pages were read from outside shared buffers)"
WARM = "buffers (the cache was warm)"


@pytest.mark.parametrize(
    ("measured", "passed", "part"),
    [
        # fast enough: nothing else matters
        (pair((5.0, 5.1)), True, "time"),
        (pair((9.0, 9.9), (0.1, 0.1), (0.1, 0.1), outside=True), True, "time"),
        # too slow, and pages came from outside: the time alone counts
        (pair((4.9, 4.99), (99, 99), outside=True), False, OUTSIDE),
        (pair((4.9, 5.01), (99, 99), outside=True), None, "time"),
        # too slow, warm: the buffers count, if processor time is at least halved
        (pair((1.1, 4.99), (5.0, 5.0), (2.0, 2.1)), True, WARM),
        (pair((4.9, 5.01), (5.0, 5.0), (2.0, 2.1)), True, WARM),
        (pair((3.0, 3.1), (4.9, 4.99), (9, 9)), False, WARM),
        (pair((3.0, 3.1), (500, 500), (1.9, 1.99)), False, "processor time (the cache was warm)"),
        (pair((3.0, 3.1), (4.9, 5.01), (9, 9)), None, "buffers"),
        (pair((3.0, 3.1), (500, 500), (1.9, 2.01)), None, "processor time"),
        (pair((3.0, 3.1), (4.9, 5.01), (1.9, 1.99)), False, "processor time (the cache was warm)"),
        # less processor time, but not sooner done: other processors were borrowed
        (pair((0.9, 0.99), (500, 500), (9, 9)), False, "latency (the cache was warm)"),
        (pair((0.9, 1.01), (500, 500), (9, 9)), None, "latency"),
        # whether the time reaches it is all that is left to ask
        (pair((4.9, 5.01), (1.0, 1.0)), None, "time"),
    ],
)
def test_every_branch_of_the_rule(measured: QueryPair, passed: bool | None, part: str) -> None:
    assert decide(measured, 5) == (passed, part)


def test_processor_time_is_told_where_a_query_had_workers() -> None:
    def told(measured: QueryPair) -> str:
        return str(query_gates.gates(parsed(queries=[QUERY]), [measured])[0].measured)

    assert "5 × faster [5–5.1] (1.0 against 1.0 ms), no fewer buffers [1–1], " in told(
        pair((5.0, 5.1))
    )
    assert "ms), 9 × less processor time [9–9.2], " in told(pair((5.0, 5.1), processor=(9.0, 9.2)))


def test_the_wanted_speed_up_is_the_phases() -> None:
    assert decide(pair((3.0, 3.1)), 3) == (True, "time")
    assert decide(pair((9, 9), (9, 9)), 10)[0] is False
    assert decide(pair((2.5, 2.6), (10, 10)), 10)[0] is True


def test_what_is_too_close_to_call_misses_and_says_so() -> None:
    close = pair((4.9, 5.01))
    assert met(parsed(), close) == (
        False,
        "too close to call after 44 runs, because of time",
    )
    assert met(parsed(), pair((5.0, 5.01))) == (True, "decided by time")


bounds = st.tuples(st.floats(0, 100), st.floats(0, 3)).map(lambda b: (b[0], b[0] + b[1]))
RANK = {False: 0, None: 1, True: 2}


@given(bounds, bounds, bounds, st.booleans(), st.floats(0, 10))
def test_a_better_measurement_is_never_judged_worse(
    time: Interval, buffers: Interval, processor: Interval, outside: bool, better: float
) -> None:
    before = decide(pair(time, buffers, processor, outside=outside), 5)[0]
    for moved in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        given_now = [
            (low + better * by, high + better * by)
            for (low, high), by in zip((time, buffers, processor), moved, strict=True)
        ]
        after = decide(pair(*given_now, outside=outside), 5)[0]
        assert RANK[after] >= RANK[before]


@given(bounds, bounds, bounds, st.booleans())
def test_nothing_that_may_be_slower_or_save_little_work_ever_passes(
    time: Interval, buffers: Interval, processor: Interval, outside: bool
) -> None:
    if decide(pair(time, buffers, processor, outside=outside), 5)[0]:
        assert time[0] >= 1
        assert time[0] >= 5 or processor[0] >= 2


def test_an_interval_is_the_same_each_time_and_holds_the_ratio() -> None:
    noisy = [(10.0 + n % 7, 2.0 + n % 3 / 10) for n in range(22)]
    same = [(50.0, 10.0)] * 22
    found = bootstrap.intervals({"time": noisy, "buffer": same})
    assert found == bootstrap.intervals({"time": noisy, "buffer": same})
    assert found["buffer"] == (5.0, 5.0)
    low, high = found["time"]
    assert low < bootstrap.ratio(noisy) < high and low > 4 and high < 9


def test_what_slows_a_repetition_down_slows_both_and_widens_nothing() -> None:
    disturbed = [(6.0 * slow, 1.0 * slow) for slow in (1, 5, 1, 9, 1, 1, 3, 1, 7, 1, 1)]
    low, high = bootstrap.intervals({"time": disturbed})["time"]
    assert (low, high) == (6.0, 6.0)


def test_an_interval_holds_the_true_ratio_about_nineteen_times_of_twenty() -> None:
    chance = random.Random(1)
    held = 0
    for _ in range(100):
        pairs = [(chance.lognormvariate(2, 0.3), chance.lognormvariate(0, 0.3)) for _ in range(22)]
        low, high = bootstrap.intervals({"time": pairs})["time"]
        held += low <= math.exp(2) <= high
    assert 88 <= held <= 100


COLUMNS = {"region": Identifier("regions")}


def compiled(query: str, **changes: Any) -> str:
    return render(query_gates.compile(parsed(**changes), COLUMNS, query))


def test_placeholders_are_quoted_and_columns_bear_their_present_name() -> None:
    assert compiled("SELECT {region} FROM {table} t JOIN {source} s USING (id)") == (
        'SELECT "regions" FROM "public"."orders" t JOIN "public"."customers" s USING (id)'
    )
    assert compiled("SELECT 1 FROM {table}", table='o"x') == 'SELECT 1 FROM "public"."o""x"'


def test_per_cent_signs_and_doubled_braces_are_kept() -> None:
    assert (
        compiled("SELECT 'a%b', '{{1,2}}'::int[], 7 % 2") == "SELECT 'a%b', '{1,2}'::int[], 7 % 2"
    )


@pytest.mark.parametrize(
    "query",
    ["SELECT {regoin}", "SELECT {}", "SELECT {0}", "SELECT '{1,2}'", "SELECT {", "SELECT }"],
)
def test_a_placeholder_that_is_none_is_refused_with_those_that_are(query: str) -> None:
    with pytest.raises(RunbookError) as refused:
        compiled(query)
    text = str(refused.value)
    assert query in text and "{table}, {source}, {region}" in text and "double" in text


@pytest.mark.parametrize(
    ("enforce", "changes", "status", "words"),
    [
        (True, {}, "pass", "equal results; decided by time"),
        (True, {"equal": False}, "fail", "DIFFERENT RESULTS"),
        (True, {"time": (1.0, 1.1)}, "fail", "decided by buffers"),
        (True, {"time": (4.0, 6.0)}, "fail", "too close to call after 44 runs"),
        (False, {"time": (1.0, 1.1)}, "warn", "no faster [1–1.1]"),
    ],
)
def test_the_gate_wants_speed_and_equal_results(
    enforce: bool, changes: dict[str, Any], status: str, words: str
) -> None:
    query = Query("q", "", "", enforce)
    found = query_gates.gate(parsed(), query, pair(**changes))
    assert (found.status, found.test, found.id) == (status, 5, "query:q")
    assert words in found.measured


def run(ms: float, *, hit: int = 8, read: int = 0) -> Measured:
    return Measured(ms=ms, processor_ms=2 * ms, workers=1, buffers=hit + read, read=read, plan={})


def test_a_side_is_medians_and_the_last_plan() -> None:
    side = processor_time.side([run(9.0, read=3), run(1.0), run(2.0, hit=20)])
    assert side.ms == Spread(median=2.0, min=1.0, max=9.0)
    assert side.processor_ms == Spread(median=4.0, min=2.0, max=18.0)
    assert side.buffers == 11
    assert side.read == 3, "the most of any run"


def node(kind: str, *below: dict[str, Any], of: str = "Outer", **more: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Parent Relationship": of, "Plans": list(below), **more}


def worker(ms: float, loops: int = 1) -> dict[str, Any]:
    return {"Actual Total Time": ms, "Actual Loops": loops}


def test_the_time_of_workers_is_that_right_below_each_gather() -> None:
    join = node("Hash Join", node("Seq Scan", Workers=[worker(7)]), Workers=[worker(9), worker(8)])
    once = node("Seq Scan", Workers=[worker(5)], of="InitPlan")
    again = node("Gather Merge", node("Sort", Workers=[worker(2, 3)]), **{"Workers Launched": 1})
    never = node("Gather", node("Seq Scan", Workers=[worker(99)]))
    first = node("Gather", join, once, **{"Workers Launched": 2})
    assert processor_time.worker_ms(node("Append", first, again, never)) == 9 + 8 + 2 * 3
    assert processor_time.worker_ms(node("Seq Scan")) == 0
