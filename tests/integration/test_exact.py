# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollback gives back just what the run wrote and still stands, and says of everything else what
it is."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps
from tests.integration.test_backfill import end, filled, sessions

Phase = dict[str, Any]

PUT_BACK = """
CREATE FUNCTION put_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.snapshot_country IS NULL AND OLD.snapshot_country IS NOT NULL THEN {} END IF;
    RETURN NEW; END $$;
CREATE {} ON session_summaries {} FOR EACH ROW EXECUTE FUNCTION put_back()
"""
AGAIN = (
    "UPDATE session_summaries SET snapshot_country = OLD.snapshot_country"
    " WHERE session_id = OLD.session_id;"
)
TRIGGERS = {
    "before": PUT_BACK.format(
        "NEW.snapshot_country := OLD.snapshot_country;", "TRIGGER put_back BEFORE UPDATE", ""
    ),
    "after": PUT_BACK.format(AGAIN, "TRIGGER put_back AFTER UPDATE", ""),
    "deferred": PUT_BACK.format(
        AGAIN, "CONSTRAINT TRIGGER put_back AFTER UPDATE", "DEFERRABLE INITIALLY DEFERRED"
    ),
}


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A finished run."""
    return finished(Steps.of(module, database, phase))


def finished(steps: Steps) -> Steps:
    steps.begin()
    steps.approve("backfill")
    steps.backfill()
    end(steps)
    return steps


def plan_back(steps: Steps, **arguments: Any) -> dict[str, Any]:
    return steps.plan(rollback_of=steps.planned["run"]["id"], **arguments)


def give_back(steps: Steps, **arguments: Any) -> dict[str, Any]:
    """The rows only."""
    plan_back(steps, **arguments)
    steps.approve("rollback")
    rows = 0
    while not (result := steps.do("backfill", state="reverted"))["done"]:
        rows += result["rows_changed"]
    return {**result, "rows_changed": rows + result["rows_changed"]}


def test_a_value_that_only_its_collation_takes_for_ours_is_left_alone(
    icu_database: Database, module: Module, phase: Phase
) -> None:
    steps = finished(Steps.of(module, icu_database, phase))
    (theirs,) = filled(icu_database, 1)
    icu_database.sql(
        "CREATE COLLATION ignores_case (provider = icu, locale = 'und-u-ks-level2',"
        " deterministic = false);"
        "ALTER TABLE session_summaries"
        " ALTER snapshot_ip_type TYPE text COLLATE ignores_case"
    )
    icu_database.sql(
        "UPDATE session_summaries SET snapshot_ip_type = lower(snapshot_ip_type)"
        " WHERE session_id = %s",
        (theirs,),
    )
    result = give_back(steps)
    assert [entry[0] for entry in result["left_alone"]] == [theirs]
    assert sessions(icu_database, theirs)[0]["snapshot_ip_type"].islower()


@pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS.keys())
def test_a_row_whose_value_a_trigger_puts_back_is_not_given_back(
    database: Database, steps: Steps, trigger: str
) -> None:
    ids = filled(database, 10**6)
    database.sql(trigger)
    assert "'put_back'" in steps.refused("plan", rollback_of=steps.planned["run"]["id"])
    kept = database.sql("SELECT count(snapshot_country) AS n FROM session_summaries")[0]["n"]
    result = give_back(steps, acknowledged=["put_back"])
    assert steps.planned["plan"]["triggers"] == ["put_back"]
    assert "trigger put_back" in steps.planned["text"]
    now = database.sql("SELECT count(snapshot_country) AS n FROM session_summaries")[0]["n"]
    assert now == kept
    assert result["rows_left_alone"] == result["rows_put_back"] >= len(ids)
    assert (
        result["rows_changed"] + result["rows_left_alone"]
        == (steps.planned["counts"]["rows_eligible"])
    )


def test_all_triggers_are_told_at_once_with_an_option_that_a_shell_takes(
    database: Database, steps: Steps
) -> None:
    names = ["it's on", 'the "third"', "two"]
    for name in names:
        database.sql(
            SQL(
                "CREATE TRIGGER {} BEFORE UPDATE ON session_summaries FOR EACH ROW"
                " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
            ).format(Identifier(name))
        )
    message = steps.refused("plan", rollback_of=steps.planned["run"]["id"], acknowledged=["two"])
    option, given = shlex.split(message.rpartition("pass ")[2].removesuffix("."))
    assert option == "-e" and "There are" not in message
    acknowledged = json.loads(given)["rollback_acknowledged"]
    assert sorted(acknowledged) == names
    assert steps.plan(rollback_of=steps.planned["run"]["id"], acknowledged=acknowledged)["needed"]


def test_a_trigger_that_was_made_after_the_plan_stops_the_rollback(
    database: Database, steps: Steps
) -> None:
    plan_back(steps)
    steps.approve("rollback")
    database.sql(TRIGGERS["before"])
    assert "trigger put_back on" in steps.refused("backfill", state="reverted")


def test_rows_that_others_rewrote_with_the_same_values_are_counted(
    database: Database, steps: Steps
) -> None:
    again, rewritten = filled(database, 2)
    database.sql(
        "CREATE TABLE kept AS SELECT * FROM session_summaries WHERE session_id = %s", (again,)
    )
    database.sql("DELETE FROM session_summaries WHERE session_id = %s", (again,))
    database.sql("INSERT INTO session_summaries TABLE kept")
    database.sql(
        "UPDATE session_summaries SET snapshot_country = snapshot_country WHERE session_id = %s",
        (rewritten,),
    )
    result = give_back(steps)
    assert (result["rows_rewritten"], result["rows_left_alone"]) == (2, 0)


@pytest.mark.parametrize(
    "change",
    ["DROP COLUMN snapshot_country", "RENAME snapshot_country TO snapshot_land"],
    ids=["dropped", "renamed"],
)
def test_a_column_that_is_gone_is_named_and_the_others_are_given_back(
    database: Database, module: Module, phase: Phase, change: str
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_queries": []})
    steps.forward()
    rows = database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch")[0]["n"]
    only = database.sql(
        "SELECT count(*)::int AS n FROM pgrunbook.batch, jsonb_array_elements(journal) e"
        " WHERE e ->> 1 IS NULL AND e ->> 3 IS NULL"
    )[0]["n"]
    database.sql(f"ALTER TABLE session_summaries {change}")
    result = steps.back()
    assert steps.planned["plan"]["columns_gone"] == ["snapshot_country"]
    assert "Column snapshot_country is not there any more" in steps.planned["text"]
    assert result["columns_gone"] == ["snapshot_country"]
    assert result["rows_left_alone"] == only
    left = database.sql(
        "SELECT count(*)::int AS n FROM pgrunbook.batch, jsonb_array_elements(journal) e"
        " JOIN session_summaries ON session_id = e ->> 0"
        " WHERE e ->> 1 IS NOT NULL AND snapshot_asn IS NOT NULL"
    )
    assert (left, rows > 0) == ([{"n": 0}], True)


def test_no_column_left_gives_nothing_back_and_says_so(database: Database, steps: Steps) -> None:
    database.sql(
        "ALTER TABLE session_summaries DROP snapshot_asn, DROP snapshot_country,"
        " DROP snapshot_ip_type"
    )
    plan_back(steps)
    assert len(steps.planned["plan"]["columns_gone"]) == 3
    assert steps.planned["counts"]["rows_eligible"] == 0


CONSTRAINTS = {
    "not null": ("ALTER snapshot_asn SET NOT NULL", "has become NOT NULL"),
    "check": (
        "ADD CONSTRAINT pairs CHECK ((snapshot_asn IS NULL) = (snapshot_country IS NULL)"
        " AND snapshot_asn IS NOT NULL) NOT VALID",
        "'pairs'",
    ),
}


@pytest.mark.parametrize(("constraint", "says"), CONSTRAINTS.values(), ids=CONSTRAINTS.keys())
def test_a_constraint_that_forbids_null_is_found_before_it_begins(
    database: Database, steps: Steps, constraint: str, says: str
) -> None:
    database.sql("UPDATE session_summaries SET snapshot_asn = 1 WHERE snapshot_asn IS NULL")
    database.sql(f"ALTER TABLE session_summaries {constraint}")
    assert says in steps.refused("plan", rollback_of=steps.planned["run"]["id"])


def test_a_constraint_that_allows_null_stands_in_nobodys_way(
    database: Database, steps: Steps
) -> None:
    database.sql(
        "ALTER TABLE session_summaries ADD CHECK (snapshot_asn > 0 OR risk_score >= 0) NOT VALID"
    )
    assert give_back(steps)["rows_left_alone"] == 0


def test_a_row_that_was_filled_twice_is_given_back_once(
    database: Database, module: Module, phase: Phase
) -> None:
    """First whole, then, with another value, in the column that somebody had emptied."""
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.approve("backfill")
    steps.backfill()
    (twice,) = filled(database, 1)
    database.sql(
        "UPDATE session_summaries SET snapshot_country = NULL WHERE session_id = %s", (twice,)
    )
    database.sql(
        "UPDATE ip_inventory SET geo_country = 'ZZ' WHERE ip_address ="
        " (SELECT source_ip FROM session_summaries WHERE session_id = %s)",
        (twice,),
    )
    database.sql("UPDATE pgrunbook.run SET sweep = 0, next_page = 0, end_page = NULL")
    steps.backfill()
    end(steps)
    assert sessions(database, twice)[0]["snapshot_country"] == "ZZ"
    entries = database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch")[0]["n"]
    result = give_back(steps)
    assert result["left_alone"] == []
    assert result["rows_rewritten"] == 0
    assert result["rows_changed"] == steps.planned["counts"]["rows_eligible"] == entries - 1
    assert set(sessions(database, twice)[0].values()) == {twice, None}
