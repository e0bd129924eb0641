# SPDX-License-Identifier: GPL-3.0-or-later
"""A volatile function in the phase's expressions or queries is found before anything calls it, and
what gets a transaction id is no dry run.

The function says_so() fails when it is called, so a message that names it as volatile, and not its
failure, shows that nothing called it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]
Change = Callable[[Phase], object]

FUNCTIONS = """
CREATE FUNCTION says_so() RETURNS integer VOLATILE LANGUAGE plpgsql
    AS $$ BEGIN RAISE 'called'; END $$;
CREATE FUNCTION "Odd ""name"(integer) RETURNS integer VOLATILE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION odd_plus(integer, integer) RETURNS integer VOLATILE LANGUAGE sql AS 'SELECT $1';
CREATE OPERATOR <+> (LEFTARG = integer, RIGHTARG = integer, FUNCTION = odd_plus);
CREATE FUNCTION stamped() RETURNS integer STABLE LANGUAGE plpgsql
    AS $$ BEGIN RETURN txid_current() % 1000 + 1; END $$;
CREATE VIEW seen AS SELECT *, says_so() AS told FROM ip_inventory;
CREATE VIEW seen_again AS SELECT ip_address, current_asn, geo_country, ip_type FROM seen;
CREATE VIEW assigning AS SELECT *, txid_current() AS id FROM ip_inventory;
"""


def source(expression: str) -> Change:
    return lambda phase: phase["phase_columns"][0].update(source=expression)


def of(view: str) -> Change:
    return lambda phase: phase.update(phase_source_table=view)


def query(sql: str) -> Change:
    return lambda phase: phase["phase_queries"][0].update(snapshot=sql)


def using(expression: str) -> Change:
    return lambda phase: phase["phase_columns"][2].update(
        converted_from="text", type="varchar(20)", using=expression
    )


PLACES: dict[str, tuple[Change, str, str]] = {
    "source": (source("coalesce(current_asn, says_so())"), "'snapshot_asn'", "plan data_gates"),
    "view": (of("seen"), "public.seen cannot be the source", "plan data_gates preflight"),
    "view of a view": (
        of("seen_again"),
        "public.seen_again cannot be",
        "plan data_gates preflight",
    ),
    "using": (using("{snapshot_ip_type} || says_so()"), "'snapshot_ip_type'", "plan data_gates"),
    "query": (query("SELECT says_so() FROM {table} -- all"), "sessions of a", "plan query_gates"),
    "query of a view": (query("SELECT told FROM seen"), "sessions of a", "plan query_gates"),
}
"""What the phase has, where the message says that it is, and which modules would call it."""


@pytest.mark.parametrize(
    ("place", "name"), [(place, m) for place, (*_, ms) in PLACES.items() for m in ms.split()]
)
def test_is_refused_before_it_is_called(
    database: Database, module: Module, phase: Phase, place: str, name: str
) -> None:
    change, says, _ = PLACES[place]
    database.sql(FUNCTIONS)
    change(phase)
    message = Steps.of(module, database, phase).refused(name)
    assert says in message and "says_so(), which is volatile" in message
    assert "list says_so() in phase_acknowledged" in message


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("random()::int", "random()"),
        ("pg_catalog.random ()::int", "random()"),
        ("extract(epoch FROM CLOCK_TIMESTAMP())::int", "clock_timestamp()"),
        ('"Odd ""name"(current_asn)', 'Odd "name()'),
        ("set_config('work_mem', '64kB', false)::int", "set_config()"),
        (
            "(SELECT pg_terminate_backend(pid)::int FROM pg_stat_activity WHERE pid = 0)",
            "pg_terminate_backend()",
        ),
        ("length(pg_logical_emit_message(false, 'a', 'b')::text)", "pg_logical_emit_message()"),
        ("(SELECT 1 FROM (SELECT pg_advisory_lock(1)) a)", "pg_advisory_lock()"),
        ("current_asn <+> 1", "behind an operator"),
        ("txid_current()::text::int", "transaction id"),
        ('"pg_current_xact_id" ()::text::int', "transaction id"),
    ],
)
def test_is_named(
    database: Database, module: Module, phase: Phase, expression: str, named: str
) -> None:
    database.sql(FUNCTIONS)
    source(expression)(phase)
    message = Steps.of(module, database, phase).refused("plan")
    assert named in message and "It was not executed." in message


def test_what_is_not_volatile_needs_no_word(
    database: Database, module: Module, phase: Phase
) -> None:
    source("coalesce(current_asn, extract(epoch FROM now())::int / (SELECT 1))")(phase)
    plan = Steps.of(module, database, phase).plan()
    assert plan["plan"]["volatile"] == [] and "volatile" not in plan["text"]


@pytest.mark.representative
def test_one_that_is_acknowledged_is_in_the_plan_and_fills(
    database: Database, module: Module, phase: Phase
) -> None:
    source("coalesce(current_asn, (1000 * random())::int + 1)")(phase)
    query("SELECT count(*) FROM {table} WHERE clock_timestamp() IS NOT NULL")(phase)
    phase["phase_queries"][0]["baseline"] = "SELECT count(*) FROM {table}"
    phase["phase_acknowledged"] = ["random()", "clock_timestamp()"]
    steps = Steps.of(module, database, phase)
    steps.begin()
    assert steps.planned["plan"]["volatile"] == ["clock_timestamp()", "random()"]
    assert "random() is volatile" in steps.planned["text"]
    steps.backfill(canary=True)
    steps.approve("backfill")
    steps.defer()
    steps.backfill()
    left = database.sql(
        "SELECT count(*) AS n FROM session_summaries s JOIN ip_inventory ON ip_address = source_ip"
        " WHERE snapshot_asn IS NULL"
    )
    assert left == [{"n": 0}]


@pytest.mark.parametrize("change", [of("assigning"), query("SELECT id FROM assigning")])
def test_one_that_assigns_a_transaction_id_is_found_in_a_view(
    database: Database, module: Module, phase: Phase, change: Change
) -> None:
    database.sql(FUNCTIONS)
    change(phase)
    assert "txid_current(), which assigns" in Steps.of(module, database, phase).refused("plan")


def test_no_dry_run_gets_a_transaction_id_whatever_the_gates_say(
    database: Database, module: Module, phase: Phase
) -> None:
    """The function is marked as stable, and what it calls is in its body, where nobody looks."""
    database.sql(FUNCTIONS)
    source("coalesce(current_asn, stamped())")(phase)
    steps = Steps.of(module, database, {**phase, "phase_gates": {"dry_run": "warn"}})
    for name in ("plan", "data_gates"):
        message = steps.refused(name)
        assert "This was to write nothing" in message and "transaction id" in message
