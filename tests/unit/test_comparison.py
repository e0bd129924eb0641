# SPDX-License-Identifier: GPL-3.0-or-later
"""The speed-up gate's one rule, and the placeholders of its queries."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import Identifier

from ansible.module_utils.pgrunbook import comparison
from ansible.module_utils.pgrunbook.errors import RunbookError
from ansible.module_utils.pgrunbook.spec import Query
from ansible.module_utils.pgrunbook.sql import render
from tests.unit.conftest import parsed


def decide(
    time_ratio: float, buffer_ratio: float = 1.0, *, outside: bool = False, speedup_min: float = 5
) -> tuple[bool, str]:
    return comparison.decide(
        time_ratio=time_ratio,
        buffer_ratio=buffer_ratio,
        read_from_outside=outside,
        speedup_min=speedup_min,
    )


@pytest.mark.parametrize(
    ("time_ratio", "buffer_ratio", "outside", "passed", "half"),
    [
        # fast enough: nothing else matters
        (5.0, 0.1, False, True, "time"),
        (9.0, 0.1, True, True, "time"),
        # too slow, and pages came from outside: the time alone counts
        (4.99, 100.0, True, False, "time (pages were read from outside shared buffers)"),
        # too slow, warm: the buffers count, if the time is at least halved
        (4.99, 5.0, False, True, "buffers (the cache was warm)"),
        (2.0, 5.0, False, True, "buffers (the cache was warm)"),
        (1.99, 500.0, False, False, "buffers (the cache was warm)"),
        (4.99, 4.99, False, False, "buffers (the cache was warm)"),
    ],
)
def test_every_branch_of_the_rule(
    time_ratio: float, buffer_ratio: float, outside: bool, passed: bool, half: str
) -> None:
    assert decide(time_ratio, buffer_ratio, outside=outside) == (passed, half)


def test_the_wanted_speed_up_is_the_phases() -> None:
    assert decide(3.0, speedup_min=3) == (True, "time")
    assert decide(9.0, 9.0, speedup_min=10)[0] is False
    assert decide(2.5, 10.0, speedup_min=10)[0] is True


ratios = st.floats(0, 100)


@given(ratios, ratios, st.booleans(), st.floats(0, 10), st.floats(0, 10))
def test_a_better_measurement_never_fails_where_a_worse_one_passed(
    time_ratio: float, buffer_ratio: float, outside: bool, faster: float, fewer: float
) -> None:
    if decide(time_ratio, buffer_ratio, outside=outside)[0]:
        assert decide(time_ratio + faster, buffer_ratio + fewer, outside=outside)[0]


@given(ratios, ratios, st.booleans())
def test_nothing_slower_than_twice_as_fast_ever_passes(
    time_ratio: float, buffer_ratio: float, outside: bool
) -> None:
    if decide(time_ratio, buffer_ratio, outside=outside)[0]:
        assert time_ratio >= 2


COLUMNS = {"region": Identifier("regions")}


def compiled(query: str, **changes: Any) -> str:
    return render(comparison.compile(parsed(**changes), COLUMNS, query))


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


def pair(**changes: Any) -> dict[str, Any]:
    side = {"ms": {"median": 1.0, "min": 1.0, "max": 1.0}, "buffers": 10, "read": 0, "plan": {}}
    return {
        "name": "q",
        "equal": True,
        "rows": 1,
        "time_ratio": 6.0,
        "buffer_ratio": 6.0,
        "read_from_outside": False,
        "snapshot": side,
        "baseline": side,
        "proposal": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("enforce", "changes", "status", "words"),
    [
        (True, {}, "pass", "equal results; decided by time"),
        (True, {"equal": False}, "fail", "DIFFERENT RESULTS"),
        (True, {"time_ratio": 1.0}, "fail", "decided by buffers"),
        (False, {"time_ratio": 1.0}, "warn", "1.0 × in time"),
    ],
)
def test_the_gate_wants_speed_and_equal_results(
    enforce: bool, changes: dict[str, Any], status: str, words: str
) -> None:
    query = Query("q", "", "", enforce)
    found = comparison._check(parsed(), query, pair(**changes))
    assert (found["status"], found["test"], found["id"]) == (status, 5, "query:q")
    assert words in found["measured"]


def run(ms: float, *, hit: int = 8, read: int = 0) -> dict[str, Any]:
    plan = {"Shared Hit Blocks": hit, "Shared Read Blocks": read}
    return {"Planning Time": 0.5, "Execution Time": ms - 0.5, "Plan": plan}


def test_a_side_is_the_median_of_planning_and_execution() -> None:
    side = comparison._side([run(9.0, read=3), run(1.0), run(2.0, hit=20)])
    assert side["ms"] == {"median": 2.0, "min": 1.0, "max": 9.0}
    assert side["buffers"] == 20, "of the last run"
    assert side["read"] == 3, "the most of any run"
