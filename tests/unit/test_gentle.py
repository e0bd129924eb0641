# SPDX-License-Identifier: GPL-3.0-or-later
"""What a slice goes on from, of what earlier ones felt."""

from __future__ import annotations

from psycopg.sql import SQL

from ansible.module_utils.pgrunbook.backfill.gentle import Gentle
from tests.unit.conftest import parsed

FELT = {"commit": 1.5, "probe": 2.5, "target_ms": 10.0, "duty": 0.75}


def gentle(kept: dict[str, float], query: str = "SELECT 1") -> Gentle:
    return Gentle(parsed(max_commit_ms=4.0, probe_query=query), kept, SQL("SELECT 1"))


def test_the_next_slice_goes_on_at_the_pace_of_the_one_before() -> None:
    query = gentle({}).kept()["query"]
    kept = {**FELT, "query": query}
    assert gentle(kept).kept() == kept
    assert (gentle(kept).pace.target_ms, gentle(kept).pace.duty) == (10.0, 0.75)


def test_latencies_of_another_query_are_measured_again() -> None:
    kept = {**FELT, "query": gentle({}).kept()["query"]}
    assert not {"commit", "probe"} & gentle(kept, "SELECT 2").kept().keys()


def test_nothing_is_kept_where_nothing_is_wanted() -> None:
    assert Gentle(parsed(), FELT).kept() == {}


def test_a_threshold_that_the_commit_exceeded_before_is_told() -> None:
    assert "a commit took 6 ms before the run > phase_max_commit_ms 4" in (
        Gentle(parsed(max_commit_ms=4.0), {**FELT, "commit": 6.0}).warning
    )
    assert Gentle(parsed(max_commit_ms=4.0), FELT).warning == ""
