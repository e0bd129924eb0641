# SPDX-License-Identifier: GPL-3.0-or-later
"""A strategy that somebody approved is kept while the table allows it; where it is not, a refusal
says that the strategy is what has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Database, Played
from tests.integration.small_table import INDEX, ON_VALUE, Table, all_right
from tests.integration.steps import Module, Steps

TRAFFIC = (
    "UPDATE t SET value = 'v' || ref WHERE id < 400 AND ref BETWEEN 1 AND 50 AND value IS NULL"
)
NOT_AS_IT_IS = "COMMENT ON INDEX t_value IS 'ours'"


@pytest.fixture
def steps(database: Database, module: Module) -> Steps:
    """A table of little more than the 20,000 rows from which interleaved passes pay."""
    near = {"indexes": [INDEX], "canary_rows": 50, "batch_rows": 5000, "coverage_min": 50}
    return Table(rows=25_100, after=ON_VALUE, spec=near).make(database, module)


def name(planned: dict[str, Any]) -> str:
    strategy: str = planned["plan"]["strategy"]["name"]
    return strategy


def test_live_traffic_does_not_void_an_approval(steps: Steps, database: Database) -> None:
    approved = steps.plan()
    assert name(approved) == "interleaved"
    database.sql(TRAFFIC)
    assert name(steps.plan()) == "ranges"
    kept = steps.plan(approval=approved["plan_hash"])
    assert kept["plan_hash"] == approved["plan_hash"]
    assert kept["why_strategy"].startswith(
        "as approved; chosen anew it would be ranges: fewer than 20,000 rows"
    )
    assert "as approved" in kept["text"]
    assert name(steps.plan(approval="0" * 64)) == "ranges"


def test_nor_do_fresh_statistics(steps: Steps, database: Database) -> None:
    approved = steps.plan()
    database.superuser("UPDATE pg_class SET reltuples = reltuples / 2 WHERE relname = 't'")
    fresh = steps.plan()
    assert name(fresh) == "ranges" and "room" in fresh["why_strategy"]
    assert steps.plan(approval=approved["plan_hash"])["plan_hash"] == approved["plan_hash"]
    (told,) = [o for o in fresh["alternatives"] if o["plan_hash"] == approved["plan_hash"]]
    assert "then interleaved in 16 passes" in told["told"] and "not possible" not in told["told"]


def test_a_run_goes_on_with_the_strategy_that_it_began_with(
    steps: Steps, database: Database
) -> None:
    steps.begin()
    steps.backfill(canary=True)
    steps.do("run", state="failed", detail="lost")
    database.sql(TRAFFIC)
    again = steps.plan()
    assert again["resumes"] and name(again) == "interleaved"
    assert "as approved" in again["why_strategy"]
    steps.spec["strategy"] = "ranges"
    assert name(steps.plan()) == "ranges", "the phase asks for it"
    steps.spec["strategy"] = "auto"
    steps.plan()
    steps.approve("plan")
    steps.approve("backfill")
    steps.defer()
    steps.backfill()
    steps.build()
    all_right(database)


def test_one_that_the_table_does_not_allow_any_more_is_not_kept(
    steps: Steps, database: Database
) -> None:
    approved = steps.plan()
    database.sql(NOT_AS_IT_IS)
    now = steps.plan(approval=approved["plan_hash"])
    assert name(now) == "ranges"
    (told,) = [o["told"] for o in now["alternatives"] if o["plan_hash"] == approved["plan_hash"]]
    assert told.startswith("The strategy has changed since: then interleaved in 16 passes, without")
    assert "not possible any more: t_value cannot be dropped" in told


def test_the_playbook_keeps_it_or_says_that_it_has_changed(
    steps: Steps, database: Database, playbook: Callable[..., Played]
) -> None:
    variables = {f"phase_{key}": value for key, value in steps.spec.items()}
    variables |= {"phase_name": variables.pop("phase_phase"), "phase_models": ""}
    approved = steps.plan()["plan_hash"]
    given = ["--tags", "approval", "-e", f"approval={approved}", "-e", "accept_no_go=true"]
    database.sql(NOT_AS_IT_IS)
    played = playbook(database.login, "phase3", *given, phase=variables)
    said = " ".join(played.output.split())
    assert played.status != 0, said
    assert "is not the hash of this plan" in said and "The strategy has changed since: then" in said
    assert "now ranges, because t_value cannot be dropped" in said
    database.sql(f"COMMENT ON INDEX t_value IS NULL; {TRAFFIC}")
    played = playbook(database.login, "phase3", *given, phase=variables)
    assert played.status == 0, played.output
    assert "as approved; chosen anew it would be ranges" in " ".join(played.output.split())
    rows = database.sql("SELECT plan_hash FROM pgrunbook.approval WHERE scope = 'plan'")
    assert rows == [{"plan_hash": approved}]
