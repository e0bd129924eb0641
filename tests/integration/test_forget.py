# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a run that has ended can be dropped: what stays, what is refused from then on, and
what is still found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.ledger import forget
from tests.integration.conftest import Database, Played, approval_of
from tests.integration.steps import Module, Steps
from tests.integration.test_backfill import die
from tests.integration.test_exact import finished
from tests.integration.test_journal import FIRST, run_info
from tests.integration.test_rollback import second_run

Phase = dict[str, Any]
Playbook = Callable[..., Played]

BATCHES = "SELECT id, row_count, first_page, milliseconds FROM pgrunbook.batch ORDER BY id"
ENTRIES = (
    "SELECT coalesce(sum(jsonb_array_length(journal)), 0)::int AS n, count(merged)::int AS merged"
    " FROM pgrunbook.batch"
)
FORGOTTEN = (
    "SELECT body -> 'detail' AS detail FROM pgrunbook.event"
    " WHERE body ->> 'kind' = 'forgotten' ORDER BY id"
)
LEDGER = (
    "SELECT (SELECT jsonb_agg(to_jsonb(b) ORDER BY to_jsonb(b)) FROM pgrunbook.{} b)::text AS all"
)


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A finished run."""
    return finished(Steps.of(module, database, phase))


def run_of(steps: Steps) -> str:
    run: str = steps.planned["run"]["id"]
    return run


def plan_to_forget(steps: Steps, run: str, **arguments: Any) -> dict[str, Any]:
    steps.plan(forgets=run, **arguments)
    steps.approve("forget")
    return steps.planned


def forgotten(steps: Steps, run: str = "") -> dict[str, Any]:
    """The run, or the one that was planned last, once its journal is forgotten."""
    planned = plan_to_forget(steps, run or run_of(steps))
    steps.do("forget")
    return planned


def whole_ledger(database: Database) -> list[Any]:
    tables = ("run", "approval", "change", "batch", "event", "ledger")
    return [database.sql(LEDGER.format(table)) for table in tables]


@pytest.mark.representative
def test_the_entries_go_and_the_evidence_stays(database: Database, steps: Steps) -> None:
    run, batches = run_of(steps), database.sql(BATCHES)
    rows = sum(batch["row_count"] for batch in batches)
    before = whole_ledger(database)
    steps.plan(forgets=run, check=True)
    dry = steps.do("forget", check=True)
    assert whole_ledger(database) == before
    assert dry["proof"] == {"read_only": True, "xid": None}
    assert (
        f"The entries of {rows:,} rows in {len(batches)} batches: {dry['bytes']:,}"
        in (steps.planned["text"])
    )
    for told in (f"{rows:,} rows of run {run}", "rename of snapshot_ip_types", "VACUUM"):
        assert told in " ".join(steps.planned["text"].split())
    assert "Nobody approved" in steps.refused("forget")
    assert whole_ledger(database) == before

    journal = forgotten(steps)["journal"]
    assert (database.sql(BATCHES), database.sql(ENTRIES)) == (batches, [{"n": 0, "merged": 0}])
    ((event),) = database.sql(FORGOTTEN)
    assert {k: v for k, v in event["detail"].items() if k != "plan_hash"} == {
        "by": "alice",
        "rows": rows,
        "batches": len(batches),
        "bytes": journal["bytes"],
        "sha256": journal["sha256"],
    }
    again = steps.plan(forgets=run)
    assert not again["needed"] and "alice has forgotten this journal" in again["text"]
    assert not steps.do("forget")["changed"]
    assert len(steps.do("run", check=True, state="running")["history"]["batches"]) == len(batches)


def test_it_is_a_state_of_its_own_and_what_somebody_deletes_is_still_found(
    database: Database, steps: Steps
) -> None:
    run = run_of(steps)
    forgotten(steps)
    found = run_info(steps)
    assert found["altered"] == []
    (note,) = found["notes"]
    assert run in note and "was forgotten" in note
    assert "journal forgotten: by alice, 20" in found["text"]
    assert found["runs"][0]["rows_changed"] > 0
    database.sql("CREATE TABLE kept AS TABLE pgrunbook.batch")
    for change, says in (
        (f"DELETE FROM pgrunbook.batch WHERE id = {FIRST}", "are missing"),
        ("DELETE FROM pgrunbook.batch", "are missing"),
        (f"UPDATE pgrunbook.batch SET journal = '[[1]]' WHERE id = {FIRST}", "differs"),
        ("UPDATE pgrunbook.batch SET reverted_at = now()", "which no rollback gave back"),
    ):
        database.sql(change)
        (altered,) = run_info(steps)["altered"]
        assert says in altered, change
        database.sql(
            "DELETE FROM pgrunbook.batch;"
            "INSERT INTO pgrunbook.batch OVERRIDING SYSTEM VALUE TABLE kept"
        )
        assert run_info(steps)["altered"] == []


def test_a_journal_that_somebody_emptied_by_hand_is_not_forgotten(
    database: Database, steps: Steps
) -> None:
    run = run_of(steps)
    database.sql(f"UPDATE pgrunbook.batch SET journal = '[]' WHERE id = {FIRST}")
    (altered,) = run_info(steps)["altered"]
    message = steps.refused("plan", forgets=run)
    assert altered in message and "accept_incomplete_journal" in message
    plan_to_forget(steps, run, accept_incomplete_journal=True)
    assert "ACCEPTED" in steps.planned["text"]
    steps.do("forget")
    assert run_info(steps)["altered"] == []


def test_a_forgotten_run_is_not_rolled_back(database: Database, steps: Steps) -> None:
    run = run_of(steps)
    plan = steps.plan(rollback_of=run)  # made before
    forgotten(steps, run)
    message = steps.refused("plan", rollback_of=run)
    assert f"Run {run} was forgotten: alice has dropped its journal on 20" in message
    assert message == steps.refused("plan", rollback_of=run, accept_incomplete_journal=True)
    steps.planned = plan
    assert "was forgotten" in steps.refused("approval", **steps.approval("rollback"))
    assert database.sql("SELECT state FROM pgrunbook.run") == [{"state": "finished"}]
    assert "was forgotten" in steps.refused("data_gates", canary_of=run)


def broken_off(database: Database, steps: Steps, run: str) -> dict[str, Any]:
    """The plan to forget a run, of whose journal only the first part was dropped."""
    planned = plan_to_forget(steps, run)
    die(database, "UPDATE", "(SELECT count(*) FROM pgrunbook.batch WHERE journal = '[]') > 4")
    assert "terminat" in steps.refused("forget")
    database.sql("DROP TRIGGER die ON pgrunbook.batch; DROP FUNCTION pgrunbook.die()")
    assert 0 < database.sql(ENTRIES)[0]["n"] < planned["journal"]["rows"]
    return planned


def is_finished(database: Database, steps: Steps, run: str, was: dict[str, Any]) -> None:
    """Forget the rest. The event has the journal as it was before the first part was dropped."""
    assert "alice has dropped the entries of" in plan_to_forget(steps, run)["text"]
    steps.do("forget")
    assert database.sql(ENTRIES)[0]["n"] == 0
    (event,) = database.sql(FORGOTTEN)
    assert event["detail"].items() >= {n: was[n] for n in ("rows", "batches", "sha256")}.items()
    assert event["detail"]["bytes"] == was["bytes"]


def test_broken_off_it_is_neither_altered_nor_rolled_back_and_goes_on(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase, phase_canary_rows=20)
    steps.begin()
    steps.backfill(canary=True)
    finished_from_canary(steps)
    run = run_of(steps)
    planned = broken_off(database, steps, run)
    found = run_info(steps)
    assert found["altered"] == []
    (note,) = found["notes"]
    assert f"playbooks/forget.yml -e run={run} finishes it" in note
    assert "has begun to forget" in steps.refused("plan", rollback_of=run)
    last = "(SELECT max(id) FROM pgrunbook.batch)"
    database.sql(
        "CREATE TABLE kept AS TABLE pgrunbook.batch;"
        f"UPDATE pgrunbook.batch SET journal = '[]' WHERE id = {last}"
    )
    (altered,) = run_info(steps)["altered"]
    assert "differs" in altered
    database.sql("UPDATE pgrunbook.batch b SET journal = k.journal FROM kept k WHERE b.id = k.id")
    is_finished(database, steps, run, planned["journal"])
    assert run_info(steps)["altered"] == []


def finished_from_canary(steps: Steps) -> None:
    steps.approve("backfill")
    steps.backfill()
    steps.do("run", state="finished")


def test_a_journal_that_no_event_covers_is_dropped_in_parts_too(
    database: Database, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older version left it."""
    run = run_of(steps)
    database.sql("UPDATE pgrunbook.event SET body = body #- '{detail,journal}'")
    monkeypatch.setattr(forget, "PART", 3)
    planned = broken_off(database, steps, run)
    assert not any("journal" in sentence for sentence in run_info(steps)["altered"])
    is_finished(database, steps, run, planned["journal"])
    assert not any("journal" in sentence for sentence in run_info(steps)["altered"])


def test_what_has_not_ended_is_not_forgotten(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    assert "The ledger has no run 'phase3-0'" in steps.refused("plan", forgets="phase3-0")
    steps.begin()
    run = run_of(steps)
    assert "is at work" in steps.refused("plan", forgets=run)
    finished_from_canary(steps)
    forgetting = steps.plan(forgets=run)
    steps.plan(rollback_of=run)
    steps.approve("rollback")
    steps.do("run", state="failed")
    assert "its rollback was begun and is not finished" in steps.refused("plan", forgets=run)
    steps.planned = forgetting
    assert "not finished" in steps.refused("approval", **steps.approval("forget"))
    database.sql("DELETE FROM pgrunbook.approval WHERE scope = 'rollback'")
    assert "it has not ended" in steps.refused("plan", forgets=run)
    database.sql("UPDATE pgrunbook.ledger SET version = 99")
    assert "which a newer pgrunbook made" in steps.refused("plan", forgets=run)


def test_a_rollback_that_begins_meanwhile_stops_it(database: Database, steps: Steps) -> None:
    run = run_of(steps)
    forgetting = plan_to_forget(steps, run)
    steps.plan(rollback_of=run)
    steps.approve("rollback")
    rolling_back, steps.planned = steps.planned, forgetting
    assert "is at work" in steps.refused("forget")
    assert database.sql(ENTRIES)[0]["n"] == forgetting["journal"]["rows"]
    steps.planned = rolling_back
    assert steps.backfill(state="reverted")["rows_changed"] == forgetting["journal"]["rows"]


def test_a_run_that_was_rolled_back_can_be_forgotten(database: Database, steps: Steps) -> None:
    run = run_of(steps)
    steps.back()
    assert "No row of run" in forgotten(steps, run)["text"]
    assert run_info(steps)["altered"] == []


def test_it_says_that_the_space_was_not_given_back(database: Database, steps: Steps) -> None:
    plan_to_forget(steps, run_of(steps))
    with closing(database.connect()) as other, other.transaction():
        other.execute("LOCK pgrunbook.batch IN SHARE UPDATE EXCLUSIVE MODE")
        done = steps.do("forget")
    assert "lock timeout" in done["not_vacuumed"]
    assert database.sql(ENTRIES)[0]["n"] == 0


def test_an_approval_covers_the_journal_as_it_was(database: Database, steps: Steps) -> None:
    run = run_of(steps)
    plan_to_forget(steps, run)
    database.sql(f"UPDATE pgrunbook.batch SET journal = '[]' WHERE id = {FIRST}")
    assert "is not the one that was approved" in steps.refused("forget")


def test_the_rollback_of_an_earlier_run_says_what_it_cannot_tell(
    database: Database, steps: Steps
) -> None:
    first, second = second_run(database, steps)
    forgotten(steps, second)
    message = steps.refused("plan", rollback_of=first)
    assert f"Run {second} may have filled rows of run {first} again, which nobody" in message
    assert "alice forgot its journal" in message and "roll run" not in message
    steps.plan(rollback_of=first, acknowledged=[second])
    assert "may have filled rows" in steps.planned["text"]


def test_rows_that_drifted_are_told_as_unknown(database: Database, steps: Steps) -> None:
    database.sql("UPDATE ip_inventory SET geo_country = 'XX' WHERE geo_country = 'DE'")

    def comparison() -> dict[str, Any]:
        (found,) = [c for c in steps.do("data_gates")["checks"] if c["id"] == "comparison"]
        return dict(found)

    known = comparison()
    assert known["evidence"]["drifted"] > 0 and "forgotten" not in known["measured"]
    run = run_of(steps)
    forgotten(steps)
    untold = comparison()
    assert untold["evidence"]["drifted"] == 0
    assert (
        f"apart from those that run {run} filled, whose journal was forgotten"
        in (untold["measured"])
    )


@pytest.mark.representative
def test_the_playbook(database: Database, steps: Steps, module: Module, playbook: Playbook) -> None:
    run = run_of(steps)
    dry = playbook(database.login, "forget", "-e", f"run={run}", "--check")
    assert dry.status == 0 and "Dry run: nothing was written." in dry.output
    assert database.sql(FORGOTTEN) == []
    unasked = playbook(database.login, "forget", "-e", f"run={run}")
    assert unasked.status != 0 and database.sql(FORGOTTEN) == []
    approval = approval_of(module, database, {}, forgets=run)
    done = playbook(database.login, "forget", "-e", f"run={run}", "-e", approval)
    assert done.status == 0, done.output
    assert "VACUUM has run" in done.output
    again = playbook(database.login, "forget", "-e", f"run={run}")
    assert again.status == 0 and "Nothing to forget" in again.output
    back = playbook(database.login, "rollback", "-e", f"run={run}")
    assert back.status != 0 and "was forgotten" in " ".join(back.output.split())
