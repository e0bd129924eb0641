# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a person reads it before they approve it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill.constraints import Refusal
from ansible.module_utils.pgrunbook.backfill.counting import Counts
from ansible.module_utils.pgrunbook.backfill.estimate import Filling
from ansible.module_utils.pgrunbook.backfill.sample import SampledRow, sample_text
from ansible.module_utils.pgrunbook.backfill.strategy import Strategy
from ansible.module_utils.pgrunbook.catalog.dependents import Dependent
from ansible.module_utils.pgrunbook.core import frame
from ansible.module_utils.pgrunbook.core.server import Identity
from ansible.module_utils.pgrunbook.ddl.step import Step
from ansible.module_utils.pgrunbook.plan import brief
from ansible.module_utils.pgrunbook.plan import text as plan_text
from ansible.module_utils.pgrunbook.plan.estimates import Estimates
from ansible.module_utils.pgrunbook.plan.plan import (
    IndexChange,
    Plan,
    PlanResult,
    RollbackPlan,
    RollbackResult,
)
from ansible.module_utils.pgrunbook.plan.text import WIDTH, rollback_text
from tests.unit.conftest import parsed

HASH = "3e3cb669" + "0" * 56
SKIPPED = {"already_complete": 0, "no_source_key": 0, "no_source_row": 0, "source_has_no_value": 0}


def step(id: str, *, needed: bool | None = None, statements: tuple[str, ...] | None = None) -> Step:
    return Step(
        id,
        f"Do {id}",
        statements=(f"SQL OF {id}",) if statements is None else statements,
        undo=(f"UNDO OF {id}",),
        lock=f"LOCK OF {id}",
        needed=needed,
    )


PLAN = Plan(
    spec=parsed(title="Phase nine"),
    server=Identity(database="shop"),
    schema={},
    surroundings={},
    source_columns={},
    dependents=[],
    triggers=[],
    volatile=[],
    strategy=Strategy("ranges"),
    steps=(
        step("rename", needed=True),
        step("index_rename", needed=False),
        step("backfill", needed=False),
        step("index_build", needed=True),
    ),
)
BEFORE = {"region": None, "zone": "north"}
RESULT = PlanResult(
    plan=PLAN,
    run=ledger.Run("phase9-20260131T040506Z-1f2e", HASH, ""),
    resumes=False,
    counts=Counts(5678, 1234, dict(SKIPPED), {}),
    baseline={},
    conversions=[],
    refused=[],
    refused_pages_read=0,
    unforeseen=[],
    compared_by={},
    why_strategy="the phase asks for it",
    alternatives=[],
    heap_only_percent=0.0,
    horizon="",
    index_changes=[IndexChange("build", "", "orders_region")],
    estimates=Estimates(backfill=0.1, index_build=2.5, index_trial=0.0),
    filling=Filling(0.1, 0.1, 0.2, "at the 12,340 rows/s of run phase9-0"),
    sample=[
        SampledRow([str(n), "a"], BEFORE, {"region": "east", "zone": "north"}) for n in range(7)
    ],
    checks=[],
)
"""A rename and a backfill are needed, and an index is not."""


def text(plan: Plan = PLAN, **changes: Any) -> str:
    return plan_text.plan_text(replace(RESULT, plan=plan, **changes))


def test_heading_names_phase_table_database_and_run() -> None:
    lines = text().splitlines()
    assert lines[0] == "Phase nine: public.orders in database shop"
    assert lines[1] == "Run phase9-20260131T040506Z-1f2e"
    assert lines[-1] == f"Plan hash: {HASH}"


def test_without_a_title_the_phase_is_named() -> None:
    plan = replace(PLAN, spec=parsed(title=""))
    assert text(plan).startswith("phase9: public.orders in database shop\n")


def test_a_resumed_plan_says_so() -> None:
    assert "Run phase9-20260131T040506Z-1f2e, which goes on where it stopped" in text(resumes=True)
    assert "goes on" not in text()


def lines_of(id: str) -> list[str]:
    """A step's SQL and undo, each of which can be copied and run as it is."""
    return [
        "   SQL   BEGIN;",
        "         SET LOCAL lock_timeout = '500ms';",
        f"         SQL OF {id};",
        "         COMMIT;",
        "   undo  BEGIN;",
        "         SET LOCAL lock_timeout = '500ms';",
        f"         UNDO OF {id};",
        "         COMMIT;",
    ]


def test_steps_that_are_needed_are_numbered_with_sql_undo_and_lock() -> None:
    shown = text()
    for number, id in enumerate(["rename", "backfill", "index_build"], 1):
        assert f"{number}. Do {id}" in shown
        whole = "\n".join(lines_of(id)) if id != "backfill" else f"   SQL   SQL OF {id}"
        assert whole in shown
        assert f"   lock  LOCK OF {id}" in shown
    assert "index_rename" not in shown


def test_rows_estimate_strategy_and_five_rows_of_the_sample() -> None:
    shown = text()
    rate = "at the 12,340 rows/s of run phase9-0"
    assert (
        f"   time  about 0.1 s (0.1 s to 0.2 s), {rate}\n   rows  1,234 of 5,678 would change\n"
        in shown
    )
    assert "   time  about 2.5 s, from a sample of the pages\n" in shown
    assert shown.count("   time  milliseconds\n") == 1, "the rename"
    assert "   how   ranges: the phase asks for it\n" in shown
    assert "   the first 5 of a sample of 7 (all of them with --diff):" in shown
    assert "     - 4, a: region=NULL zone=north\n     + 4, a: region=east zone=north" in shown
    assert "5, a:" not in shown


def test_where_nothing_was_measured_it_says_so_and_who_will() -> None:
    estimates = replace(RESULT.estimates, backfill=None)
    shown = " ".join(text(estimates=estimates, filling=Filling()).split())
    assert "time not known yet: no run of this phase has filled this table. The canary" in shown
    assert "12,340" not in shown


INTERLEAVED = Strategy("interleaved", 8, ("ix_region", "ix_zone"))
HOLDER = "pid 4711 (alice, psql, idle in transaction), for 120 s"


def how(text: str) -> str:
    """What is said of the strategy, in one line."""
    found = text.split("   how   ")[1].split("   the first 5 of")[0]
    return " ".join(found.split())


def interleaved(**changes: Any) -> str:
    """The text of a plan that drops two indexes for interleaved passes and builds them again."""
    drops = tuple(f"DROP INDEX CONCURRENTLY {index}" for index in INTERLEAVED.deferred)
    first, *others = PLAN.steps
    steps = (first, step("index_defer", needed=True, statements=drops), *others)
    return text(replace(PLAN, steps=steps, strategy=INTERLEAVED), **changes)


def test_interleaved_passes_say_how_many_why_and_which_indexes_are_built_again() -> None:
    why = "22 rows a page; ix_region, ix_zone are built again after it"
    shown = interleaved(why_strategy=why, heap_only_percent=84.6)
    expected = "about 85 % of the updates expected to be heap-only"
    assert how(shown) == f"interleaved in 8 passes: {why} {expected}"
    unknown = interleaved(why_strategy=why, heap_only_percent=None)
    assert how(unknown) == f"interleaved in 8 passes: {why}"
    assert (
        "2. Do index_defer\n   SQL   SET lock_timeout = '30min';\n"
        "         DROP INDEX CONCURRENTLY ix_region;\n"
        "         DROP INDEX CONCURRENTLY ix_zone;\n"
        "         RESET lock_timeout;\n"
    ) in shown
    assert "4. Do index_build" in shown


def test_who_holds_back_the_horizon_is_named_where_passes_suffer_from_it() -> None:
    shown = interleaved(horizon=HOLDER)
    assert f"but {HOLDER}, keeps dead rows from being pruned" in how(shown)
    assert how(shown).endswith("while it lasts, single passes")
    assert HOLDER not in text(horizon=HOLDER), "single passes do not mind"


def test_acknowledged_triggers_are_named() -> None:
    plan = replace(PLAN, triggers=["audit_orders"])
    told = " ".join(text(plan).split())
    assert "Trigger audit_orders fires for every row that is filled" in told
    assert "for every row that a rollback gives back" in told
    waived = replace(plan, spec=parsed(waive_rollback=True))
    assert "a rollback" not in text(waived)
    assert "Trigger" not in text()


def test_rows_that_would_be_refused_are_named_and_what_nobody_can_foresee() -> None:
    refused = [Refusal("CHECK constraint 'k' of public.orders", 12, ["[1]"])]
    told = " ".join(text(refused=refused, unforeseen=["trigger 'g'", "exclusion 'x'"]).split())
    assert "12 would be set aside, such as [1]: CHECK constraint 'k' of public.orders" in told
    assert "not foreseen: what trigger 'g'; exclusion 'x' would refuse" in told


def test_a_small_sample_is_shown_whole() -> None:
    assert "the first 2 of a sample of 2 " in text(sample=RESULT.sample[:2])


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("already_complete", "they have every value already"),
        ("no_source_key", "they have no source key"),
        ("no_source_row", "they have no source row"),
        ("source_has_no_value", "they lack a value, and the source has none"),
    ],
)
def test_reasons_for_skipped_rows(reason: str, words: str) -> None:
    skipped = {**SKIPPED, reason: 4321}
    shown = text(counts=replace(RESULT.counts, rows_skipped=skipped))
    assert [line for line in shown.splitlines() if "stay as they are" in line] == [
        f"         4,321 stay as they are: {words}"
    ]


def test_nothing_to_do() -> None:
    skipped = {**SKIPPED, "already_complete": 9}
    shown = text(
        replace(PLAN, steps=tuple(replace(each, needed=False) for each in PLAN.steps)),
        counts=Counts(9, 0, skipped, {}),
    )
    assert "Nothing to do: the database is as the phase wants it." in shown
    assert "9 stay as they are: they have every value already" in shown
    assert "SQL" not in shown and "1." not in shown
    assert shown.endswith(f"\n\nPlan hash: {HASH}")


def test_dependents_that_follow_and_that_break() -> None:
    dependents = [
        Dependent("old_a", "view", "v", follows=True, note="keeps its name"),
        Dependent("old_a", "function", "f(integer)", follows=False, note="names it as text"),
        Dependent("old_b", "index", "i", follows=True),
    ]
    shown = text(replace(PLAN, dependents=dependents)).splitlines()
    start = shown.index("What depends on old_a:")
    assert shown[start : start + 8] == [
        "What depends on old_a:",
        "   carried along with the rename",
        "      view v: keeps its name",
        "   BREAKS, acknowledged: change it right after the rename",
        "      function f(integer): names it as text",
        "",
        "What depends on old_b:",
        "   carried along with the rename",
    ]
    assert shown[start + 8] == "      index i"
    assert "depends on" not in text()


def test_characters_that_cannot_be_seen_are_shown_as_what_they_are() -> None:
    plan = replace(PLAN, triggers=["a\u202eb"], dependents=[Dependent("c\x1b", "view", "v", True)])
    shown = text(plan, why_strategy="because\u200b")
    assert "\\u202e" in shown and "\\x1b" in shown and "because\\u200b" in shown
    assert shown.replace("\n", "").isprintable()


tokens = st.one_of(
    st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
    st.text(" x", min_size=1, max_size=30).map(lambda inner: f'"{inner}"'),
    st.text(" x'", max_size=30).map(lambda inner: "'{}'".format(inner.replace("'", "''"))),
    st.text(" x", max_size=30).map(lambda inner: f"/*{inner}*/"),
)


@given(st.lists(tokens, min_size=1, max_size=60))
def test_long_statements_are_wrapped_between_words_only(parts: list[str]) -> None:
    lines = plan_text._sql("SQL", " ".join(parts))
    assert all(len(line) <= WIDTH for line in lines)
    assert lines[0].startswith("   SQL   ")
    assert all(line.startswith(" " * 9) for line in lines[1:])
    left = parts
    for line in lines:
        taken = next(n for n in range(1, len(left) + 1) if " ".join(left[:n]) == line[9:].lstrip())
        left = left[taken:]
    assert left == []


def test_the_lines_of_a_statement_keep_their_indentation() -> None:
    assert plan_text._sql("SQL", "SELECT 1 -- it's\n  FROM t") == [
        "   SQL   SELECT 1 -- it's",
        "           FROM t",
    ]


def test_a_long_name_is_not_cut() -> None:
    name = '"' + "x - " * 30 + '"'
    assert any(name in line for line in plan_text._sql("SQL", f"ALTER TABLE {name} RENAME"))


def test_sample_of_nothing() -> None:
    assert sample_text([]) == ""


ROLLBACK = RollbackResult(
    plan=RollbackPlan(
        undoes="phase9-1",
        spec=parsed(),
        server=Identity(),
        schema={},
        surroundings={},
        triggers=[],
        columns_gone=[],
        notes=[],
        journal_altered=[],
        steps=(
            replace(step("backfill"), undo=()),
            replace(step("index", statements=()), undo=()),
            replace(step("rename"), undo=()),
        ),
    ),
    run=ledger.Run("phase9-1", HASH, ""),
    needed=True,
    rows=12,
    seconds=90.0,
    journal_unknown=[],
    playbook="playbooks/phase9.yml",
)


def test_rollback_numbers_what_there_is_to_undo() -> None:
    lines = rollback_text(ROLLBACK).splitlines()
    assert lines[0] == "Rollback of run phase9-1"
    assert "1. Do backfill" in lines and "2. Do rename" in lines
    assert "   rows  12 that the journal lists" in lines
    assert not any("Do index" in line for line in lines)
    assert lines[-1] == f"Plan hash: {HASH}"


def test_rollback_of_nothing() -> None:
    plan = replace(ROLLBACK.plan, steps=(step("backfill", statements=()),))
    shown = rollback_text(replace(ROLLBACK, needed=False, plan=plan))
    assert "Nothing to undo: the run left no change that still stands." in shown
    assert "1." not in shown


def brief_of(*needed: str, **changes: Any) -> dict[str, list[str]]:
    """The lines of the question by their labels, where these steps are needed."""
    steps = tuple(replace(s, needed=s.id in needed) for s in (*PLAN.steps, step("index_defer")))
    plan = replace(PLAN, steps=steps, schema={"columns": {}, "indexes": {"a": "there already"}})
    told: dict[str, list[str]] = {}
    label = ""
    for line in brief.plan_brief(replace(RESULT, plan=plan, **changes)).splitlines():
        label = line[: brief.MARGIN].strip() or label
        told.setdefault(label, []).append(line[brief.MARGIN :])
    return told


def test_the_question_names_the_indexes_that_the_plan_does_something_to() -> None:
    """As the plan has decided, whatever the names that the schema has."""
    changes = [
        IndexChange("rename", "was", "a"),
        IndexChange("drop_invalid", "broken", "b"),
        IndexChange("defer", "c", "c"),
        *(IndexChange("build", "", name) for name in ("b", "c")),
    ]
    needed = ("index_rename", "index_defer", "index_build")
    told = brief_of(*needed, index_changes=changes, counts=Counts(5678, 0, {}, {}))
    assert sorted(told["Changes"]) == [
        "build what was dropped again, and index b",
        "drop index broken, which is INVALID",
        "drop, until the rows are filled, index c",
        "rename index was to a",
    ]
    assert told["Missing"] == ["the index that is dropped, until it is built again, about 2.6 s"]


def test_the_question_says_so_where_nothing_is_dropped_or_left_to_do() -> None:
    told = brief_of(index_changes=[], counts=Counts(5678, 0, {}, {}))
    assert told["Changes"] == ["nothing: it is as the phase wants it"]
    assert "Missing" not in told and "How" not in told


def test_the_question_of_a_run_that_goes_on_names_it() -> None:
    told = brief_of("index_build", resumes=True)
    assert told["Run"] == ["phase9-20260131T040506Z-1f2e, which goes on where it stopped"]
    assert told["Changes"][0].startswith("fill 1,234 of 5,678 rows")
    assert told["Changes"][-1] == "build index orders_region"


def test_the_question_says_whom_a_rename_breaks() -> None:
    left = Dependent("regions", "function", "function f()", follows=False)
    schema = {"columns": {"regions": "text"}, "indexes": {}}
    plan = replace(PLAN, spec=parsed(), schema=schema, dependents=[left])
    shown = " ".join(brief.plan_brief(replace(RESULT, plan=plan)).split())
    told = "what still names regions fails: the application has to be on models that name region"
    assert told in shown
    assert "not carried along, to be changed by hand: function f()" in shown
    done = replace(plan, schema={"columns": {"region": "text"}, "indexes": {}}, dependents=[])
    assert "Names" not in brief.plan_brief(replace(RESULT, plan=done))


def test_the_question_says_when_the_window_opens_and_ends() -> None:
    def shown(**times: str) -> str:
        schema = {"columns": {}, "indexes": {}}
        plan = replace(PLAN, spec=replace(PLAN.spec, **times), schema=schema)
        return " ".join(brief.plan_brief(replace(RESULT, plan=plan)).split())

    soon = (datetime.now(UTC) + timedelta(hours=3, seconds=5)).isoformat()
    ends = "no end is set (phase_window_end)"
    assert f"opens at {soon}, in about 3 h; until then nothing is written; {ends}" in shown(
        window_start=soon
    )
    past = "2026-01-31T04:00:00+00:00"
    assert f"Window opened at {past}; ends at {soon}" in shown(window_start=past, window_end=soon)


def test_the_question_of_a_rollback_has_names_and_time() -> None:
    plan = replace(ROLLBACK.plan, schema={"columns": {"region": "text"}, "indexes": {}})
    shown = " ".join(brief.rollback_brief(replace(ROLLBACK, plan=plan)).split())
    assert "rename column region back to regions" in shown and "give back 12 rows" in shown
    assert "about 90 s, as long as the filling" in shown
    assert "what names region fails: the application has to be on models that name regions" in shown
    unknown = brief.rollback_brief(replace(ROLLBACK, plan=plan, seconds=None))
    assert brief.BACK in unknown
    assert "Names" not in brief.rollback_brief(replace(ROLLBACK, plan=plan, needed=False))


def test_a_frame_leaves_a_command_whole_and_goes_on_behind_a_label() -> None:
    command = "ansible-playbook -i inventories/production playbooks/rollback.yml -e run=" + "x" * 40
    rows = frame.framed("Title", f"Missing   {'word ' * 30}\n  {command}").splitlines()
    assert rows[2].startswith("│           word") and all(len(r) == frame.WIDTH for r in rows[:3])
    assert any(f"  {command} " in row for row in rows)
