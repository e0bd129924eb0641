# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed approvals on a database: a plan that two sign is run, one with fewer signatures is not,
and a row that somebody forges is found."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.rollout import hosts, plan_file, stored
from ansible.module_utils.pgrunbook.rollout.approve import Asked, approve
from ansible.module_utils.pgrunbook.rollout.rollout import Rollout, put_together
from ansible.module_utils.pgrunbook.rollout.to_sign import to_sign
from ansible.module_utils.pgrunbook.signing import verify
from ansible.module_utils.pgrunbook.signing.counted import Rules
from ansible.module_utils.pgrunbook.signing.reread import verify_again
from ansible.module_utils.pgrunbook.signing.statement import Statement
from ansible.module_utils.pgrunbook.signing.verify import Trust
from tests.integration.conftest import ROOT, Database, Played, command_line, copied
from tests.integration.steps import Module, Result, Steps
from tests.integration.terminal import QUESTION, Terminal
from tests.plugins import action_plugin
from tests.signers import Signer, allowed

Playbook = Callable[..., Played]


@pytest.fixture
def people(tmp_path: Path) -> tuple[Signer, Signer]:
    folder = tmp_path / "people"
    folder.mkdir()
    alice, bob = (Signer.made(folder, f"{who}@example.org") for who in ("alice", "bob"))
    allowed(folder, alice.line(), bob.line())
    return alice, bob


def trust_of(people: tuple[Signer, ...]) -> Trust:
    return Trust(str(people[0].key.with_name("allowed_signers")))


@pytest.fixture
def steps(database: Database, module: Module, phase: dict[str, Any]) -> Steps:
    return Steps.of(module, database, phase, phase_signatures_min=2, phase_queries=[])


def rollout_of(results: dict[str, Result]) -> Rollout:
    """What the plans of these hosts are put together to."""
    found = [hosts.planned(host, result, (), "") for host, result in results.items()]
    return put_together(found, [1], "", 5)


def signed_by(people: tuple[Signer, ...], rollout: Rollout) -> list[dict[str, Any]]:
    """The signatures of these people, as the controller verifies them."""
    plan = Statement(rollout.hash, "plan", to_sign(rollout).hosts)
    now = datetime.now(UTC).replace(microsecond=0)
    files = [each.sign(plan, at=now) for each in people]
    return list(plain(verify.signatures(files, plan, trust_of(people), Rules(), now)))


def scripted(plans: Path, signer: Signer, *arguments: str) -> Played:
    """What scripts/approve does, with a key, where its token is typed."""
    command = [sys.executable, "scripts/approve", str(plans), "--key", str(signer.key)]
    told = json.loads(plans.read_text("utf-8"))["hash"][:8]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        input=f"{told}\n",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Played(done.returncode, done.stdout)


def test_a_plan_that_two_people_sign_is_run_and_a_forged_row_is_found(
    database: Database,
    playbook: Playbook,
    phase: dict[str, Any],
    people: tuple[Signer, Signer],
    tmp_path: Path,
) -> None:
    phase = {**phase, "phase_signatures_min": 2, "phase_queries": []}
    dry = playbook(database.login, "phase3", "--check", phase=phase)
    assert "It also needs 2 signatures, and yours does not count." in dry.output, dry.output
    (plans,) = tmp_path.glob("reports/phase3-*-plan/plan.json")
    assert str(plans.relative_to(tmp_path)) in dry.output.replace("\n", "")
    assert stat.S_IMODE(plans.stat().st_mode) == 0o640
    for each in people:
        assert scripted(plans, each, "--as", each.name).status == 0
    files = sorted(map(str, plans.parent.glob("approval-*.sig")))
    assert len(files) == 2

    trusted = {"runbook_allowed_signers": trust_of(people).allowed}
    extra = json.dumps({**trusted, "approval_signatures": json.dumps(files)})
    again = playbook(database.login, "phase3", "--check", "-e", extra, phase=phase)
    assert again.status == 0 and f"Signed    {people[0].name}, key SHA256:" in again.output
    command = command_line(tmp_path, database.login, "phase3", "-e", extra, phase=phase)
    with Terminal(command, ROOT) as person:
        at = person.approve()
        shown = person.output
        person.wait_for(rf"All other rows(?s:.*){QUESTION}", at)
        person.approve(at)
        assert person.status() == 0, person.output
    for each in people:
        assert f"Signed    {each.name}, key SHA256:" in shown, shown

    report = json.loads((tmp_path / "reports/latest/report.json").read_text("utf-8"))
    signatures = report["approvals"][0]["signatures"]
    assert [each["signer"] for each in signatures] == [each.name for each in people]
    assert report["approvals"][1]["signatures"] == []
    page = (tmp_path / "reports/latest/report.html").read_text("utf-8")
    assert all(each["key"] in page and each["signer"] in page for each in signatures)

    status = playbook(database.login, "status", "-e", json.dumps(trusted))
    assert status.status == 0, status.output
    assert f"SIGNED  The plan {report['approvals'][0]['plan_hash'][:8]} of run" in status.output
    database.sql(
        "UPDATE pgrunbook.approval SET signatures = jsonb_set(signatures, '{1}',"
        " signatures -> 1 || jsonb_build_object('signature', signatures #>> '{0,signature}'))"
        " WHERE scope = 'plan'"
    )
    forged = playbook(database.login, "status", "-e", json.dumps(trusted))
    assert forged.status != 0
    said = " ".join(forged.output.split())
    assert "NOT SIGNED The plan of run" in said and "2 signatures wanted, 1 valid" in said


def test_no_plan_is_approved_with_fewer(
    database: Database, steps: Steps, people: tuple[Signer, Signer]
) -> None:
    steps.plan()
    before = database.fingerprint()
    both = signed_by(people, rollout_of({"test": steps.planned}))
    for fewer in ([], both[:1], [both[0], both[0]], [both[0], {**both[1], "key": both[0]["key"]}]):
        said = steps.refused("approval", **steps.approval("plan"), signatures=fewer)
        assert "The plan wants 2 signatures (phase_signatures_min)" in said
    assert database.fingerprint() == before


def test_what_writes_counts_the_signatures_of_the_row(
    database: Database, steps: Steps, people: tuple[Signer, Signer]
) -> None:
    steps.plan()
    both = signed_by(people, rollout_of({"test": steps.planned}))
    steps.approve("plan", signatures=both)

    def kept(given: Any) -> None:
        database.sql("UPDATE pgrunbook.approval SET signatures = %s", (Jsonb(given),))

    for fewer in ([], both[:1], [both[0], both[0]], "all", {"signer": "alice"}, [1, 2], None):
        kept(fewer)
        assert "The plan wants 2 signatures" in steps.refused("column")
        assert "The plan wants 2 signatures" in steps.refused("backfill", canary=True)
    kept(both)
    steps.do("column")
    steps.do("index", actions=["rename"])
    steps.backfill(canary=True)
    steps.approve("backfill")
    database.sql("UPDATE pgrunbook.approval SET signatures = NULL WHERE scope = 'plan'")
    assert "The plan wants 2 signatures" in steps.refused("backfill")
    database.sql(
        "UPDATE pgrunbook.approval SET signatures = %s WHERE scope = 'plan'", (Jsonb(both),)
    )
    steps.backfill()
    steps.do("run", state="finished", verdict="GO")
    assert steps.back()["rows_changed"] > 0  # a rollback waits for nobody


def test_the_event_has_the_signatures_of_the_row(
    database: Database, steps: Steps, people: tuple[Signer, Signer]
) -> None:
    steps.plan()
    both = signed_by(people, rollout_of({"test": steps.planned}))
    steps.approve("plan", signatures=both)
    (event,) = database.sql(
        "SELECT body -> 'detail' -> 'signatures' AS s FROM pgrunbook.event"
        " WHERE body ->> 'kind' = 'approved'"
    )
    assert event["s"] == [{key: s[key] for key in ("signer", "key", "sha256")} for s in both]
    assert steps.do("run_info", reports=[])["altered"] == []
    for change in ("signatures - 1", "NULL", "'7'", """jsonb_set(signatures, '{0,key}', '"x"')"""):
        database.sql("BEGIN; CREATE TABLE kept AS TABLE pgrunbook.approval; COMMIT")
        database.sql(f"UPDATE pgrunbook.approval SET signatures = {change}")
        (said,) = steps.do("run_info", reports=[])["altered"]
        assert said.startswith("The approval plan of run")
        database.sql(
            "UPDATE pgrunbook.approval a SET signatures = k.signatures FROM kept k"
            " WHERE k.id = a.id; DROP TABLE kept"
        )


def test_a_row_as_no_version_writes_it_is_not_signed(
    database: Database, steps: Steps, people: tuple[Signer, Signer]
) -> None:
    steps.plan()
    steps.approve("plan", signatures=signed_by(people, rollout_of({"test": steps.planned})))
    for change in (
        "signatures = '[{}, {}]'",
        """rollout = '{"id": "x", "members": [1, 2]}'""",
        """plan = jsonb_set(plan, '{spec,signatures_min}', '[1]')""",
        """plan = plan - 'server'""",
    ):
        database.sql("CREATE TABLE kept AS TABLE pgrunbook.approval")
        database.sql(f"UPDATE pgrunbook.approval SET {change}")
        told = steps.do("run_info", reports=[])
        found = action_plugin("run_info").verified(told, trust_of(people))
        assert any(said.startswith("NOT SIGNED") for said in found["altered"]), change
        assert "NOT SIGNED  The plan of run" in found["text"]
        database.sql(
            "UPDATE pgrunbook.approval a SET (signatures, rollout, plan) ="
            " (k.signatures, k.rollout, k.plan) FROM kept k WHERE k.id = a.id; DROP TABLE kept"
        )


def test_a_ledger_without_signatures_is_read_and_gets_them_with_the_next_approval(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    """A ledger of version 3, as the version before made it."""
    steps = Steps.of(module, database, phase, phase_queries=[])
    steps.begin()
    database.sql(
        "ALTER TABLE pgrunbook.approval DROP COLUMN signatures;"
        "UPDATE pgrunbook.ledger SET version = 3"
    )
    steps.backfill(canary=True)
    told = steps.do("run_info", reports=[])
    assert told["altered"] == [] and told["signed"] == []
    (approval,) = steps.do("run", state="running")["approvals"]
    assert approval["signatures"] == []
    steps.do("run", state="failed", detail="x")
    steps.back()
    assert database.sql("SELECT version FROM pgrunbook.ledger")[0]["version"] == 4


def test_a_plan_that_wants_none_may_be_signed_all_the_same(
    database: Database, module: Module, phase: dict[str, Any], people: tuple[Signer, Signer]
) -> None:
    steps = Steps.of(module, database, phase, phase_queries=[])
    steps.plan()
    rollout = rollout_of({"test": steps.planned})
    of = {"id": rollout.id, "hash": rollout.hash, "members": plain(rollout.members), "host": "test"}
    signed = signed_by(people[:1], rollout)
    steps.approve("plan", signatures=signed, rollout=of, approved_by="carol")
    steps.do("column")
    with database.connect() as conn:
        found = verify_again(ledger.signed_plans(conn), trust_of(people))
    assert found.not_signed == [] and "by alice@example.org" in found.signed[0]


def test_a_rollout_is_signed_as_a_whole_and_each_ledger_proves_it(
    database: Database,
    module: Module,
    phase: dict[str, Any],
    people: tuple[Signer, Signer],
) -> None:
    with copied(database.server) as beside:
        both = {
            host: Steps.of(module, each, phase, phase_signatures_min=2, phase_queries=[])
            for host, each in (("two", beside), ("one", database))
        }
        rollout = rollout_of({host: steps.plan() for host, steps in both.items()})
        signatures = signed_by(people, rollout)
        members = {"id": rollout.id, "hash": rollout.hash, "members": plain(rollout.members)}
        for host, steps in both.items():
            of = {**members, "host": host}
            steps.approve("plan", signatures=signatures, rollout=of, approved_by="carol")
            steps.do("column")
        for each in (database, beside):
            with each.connect() as conn:
                kept = ledger.signed_plans(conn)
                found = verify_again(kept, trust_of(people))
                assert found.not_signed == [] and len(found.signed) == 1
                fewer = [replace(kept[0], members=kept[0].members[:1])]
                assert verify_again(fewer, trust_of(people)).signed == []


def asked(plans: Path, by: Signer, **changes: Any) -> Asked:
    return replace(Asked(plans, str(by.key), 24, "", "", "carol"), **changes)


def signing(given: Asked, *answers: str) -> tuple[str, str]:
    """What scripts/approve says to somebody who answers that, and why it refuses."""
    said: list[str] = []
    left = list(answers)
    try:
        approve(given, datetime.now(UTC), lambda prompt: left.pop(0) if left else "", said.append)
    except RunbookError as error:
        return "\n".join(said), str(error)
    return "\n".join(said), ""


@pytest.fixture
def plans(steps: Steps, tmp_path: Path) -> Path:
    """The plan.json of a dry run."""
    return Path(stored.keep_one(tmp_path / "reports", rollout_of({"test": steps.plan(check=True)})))


def test_the_script_shows_what_the_question_shows_and_keeps_no_row(
    plans: Path, steps: Steps, people: tuple[Signer, Signer]
) -> None:
    alice, hash_ = people[0], steps.planned["plan_hash"]
    shown, refusal = signing(asked(plans, alice), "x", hash_[:8])
    assert refusal == ""
    unframed = [line.strip("│ ") for line in shown.split("\n")]
    assert all(line.strip() in unframed for line in steps.planned["brief"].split("\n"))
    (file,) = plans.parent.glob("*.sig")
    assert file.name == f"approval-{hash_[:8]}-carol.sig" and str(file) in shown
    content = plans.read_text("utf-8")
    assert steps.planned["sample"] and not any(
        str(value) in content for row in steps.planned["sample"] for value in row["key"]
    )
    assert "execution" not in json.loads(content)["hosts"]["test"]


def test_the_script_signs_nothing_that_is_not_approved(
    plans: Path, steps: Steps, people: tuple[Signer, Signer], tmp_path: Path
) -> None:
    alice, token = people[0], steps.planned["plan_hash"][:8]
    there = plans.parent / "there.sig"
    there.write_text("bob's", encoding="utf-8")
    cases: list[tuple[Asked, tuple[str, ...], str]] = [
        (asked(plans, alice), ("no",), "Not approved"),
        (asked(plans, alice), (), "Not approved"),
        (asked(plans, alice), ("a", "b", "c"), "Not approved"),
        (asked(plans, alice, out=str(there)), (token,), "is there already"),
        (asked(plans, alice, out=str(tmp_path / "no/x")), (token,), "cannot be written"),
        (asked(plans, alice, hours=0), (token,), "1 to 720 hours"),
        (asked(plans, alice, signer="a b"), (token,), "is the name of no signer"),
        (asked(plans, alice, signer="a\x1b"), (token,), "is the name of no signer"),
        (asked(plans, alice, key=str(tmp_path / "none")), (token,), "There is no key"),
        (asked(plans, alice, key=str(plans)), (token,), "did not sign"),
        (asked(tmp_path / "none", alice), (token,), "cannot be read"),
        (asked(tmp_path, alice), (token,), "cannot be read"),
        (asked(there, alice), (token,), "is no file of plans"),
    ]
    for given, answers, why in cases:
        _, refusal = signing(given, *answers)
        assert why in refusal and "Next step: " in refusal, (why, refusal)
    assert [path.name for path in plans.parent.glob("*.sig")] == ["there.sig"]
    assert there.read_text("utf-8") == "bob's"


def test_the_script_finds_the_only_key(
    plans: Path,
    steps: Steps,
    people: tuple[Signer, Signer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    token, given = steps.planned["plan_hash"][:8], asked(plans, people[0], key="")
    assert "Which key? There is none" in signing(given, token)[1]
    os.link(people[0].key, tmp_path / ".ssh/id_ed25519")
    assert signing(given, token)[1] == ""
    os.link(people[1].key, tmp_path / ".ssh/id_rsa")
    again = replace(given, signer="again")
    assert "id_rsa, " in signing(again, token)[1] and "pass --key" in signing(again, token)[1]


def _with(path: list[str], value: Any) -> Callable[[dict[str, Any]], None]:
    def change(told: dict[str, Any]) -> None:
        for key in path[:-1]:
            told = told[key]
        told[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_with(["hash"], "e" * 64), "was changed"),
        (_with(["hosts", "test", "plan_hash"], "e" * 64), "was changed"),
        (_with(["hosts", "test", "plan", "spec", "table"], "other"), "was changed"),
        (_with(["hosts", "test", "plan", "spec", "signatures_min"], 0), "was changed"),
        (_with(["hosts", "test", "plan", "steps"], []), "was changed"),
        (_with(["hosts", "test", "shown"], {}), "is no file of plans"),
        (_with(["hosts", "test", "shown", "counts"], [1]), "is no file of plans"),
        (_with(["hosts"], {}), "is no file of plans"),
        (_with(["hosts"], 7), "is no file of plans"),
        (_with(["format"], 2), "is of format 2"),
    ],
    ids=[
        "hash",
        "hash of a plan",
        "table",
        "signatures_min",
        "steps",
        "nothing shown",
        "counts",
        "no host",
        "hosts",
        "format",
    ],
)
def test_a_file_of_plans_that_somebody_changed_is_refused(
    plans: Path, people: tuple[Signer, Signer], change: Callable[[Any], None], why: str
) -> None:
    told = json.loads(plans.read_text("utf-8"))
    change(told)
    plans.write_text(json.dumps(told), encoding="utf-8")
    shown, refusal = signing(asked(plans, people[0]), "x")
    assert shown == "" and why in refusal and "Next step: take the plan.json" in refusal


def test_the_script_shows_what_can_only_end_no_go_and_nothing_that_cannot_be_seen(
    steps: Steps, people: tuple[Signer, Signer], tmp_path: Path
) -> None:
    steps.spec["title"] = "the\x1b[2Jtitle"
    result = steps.plan(check=True)
    planned = hosts.planned("a\nb", result, ["Orphans: wanted 0,\x1b measured 3"], "")
    rollout = put_together([planned], [1], "", 5)
    plans = Path(stored.keep_one(tmp_path, rollout))
    shown, refusal = signing(asked(plans, people[0]), rollout.hash[:8])
    assert refusal == "" and "\x1b" not in shown
    assert "NO-GO  Orphans: wanted 0,\\x1b measured 3" in shown and "the\\x1b[2Jtitle" in shown
    (file,) = plans.parent.glob("*.sig")
    assert "Host       a\\nb (system identifier" in file.read_text("utf-8")


def test_of_several_hosts_the_script_shows_the_page_of_the_question(
    database: Database, steps: Steps, people: tuple[Signer, Signer], tmp_path: Path
) -> None:
    result = steps.plan(check=True)
    other = {**result, "plan": {**result["plan"], "triggers": ["x"]}, "server_started": "y"}
    other["plan_hash"] = ledger.plan_hash(other["plan"])
    rollout = rollout_of({"two": result, "one": other})
    path = tmp_path / plan_file.NAME
    path.write_text(plan_file.content(rollout), encoding="utf-8")
    shown, refusal = signing(asked(path, people[0]), rollout.hash[:8])
    assert refusal == "" and f"Rollout hash: {rollout.hash}" in shown and "2 databases" in shown
    (file,) = tmp_path.glob("*.sig")
    lines = file.read_text("utf-8").split("\n")
    assert [line for line in lines if line.startswith("Host ")] == [
        f"Host       {host} (system identifier {result['plan']['server']['system_identifier']})"
        for host in ("one", "two")
    ]
    assert f"Its plan   {other['plan_hash']}" in lines


def test_nobody_signs_a_rollback(
    steps: Steps, people: tuple[Signer, Signer], tmp_path: Path
) -> None:
    steps.plan()
    steps.approve("plan", signatures=signed_by(people, rollout_of({"test": steps.planned})))
    steps.do("run", state="failed", detail="x")
    back = steps.do("plan", rollback_of=steps.planned["run"]["id"])
    rollout = rollout_of({"test": back})
    assert to_sign(rollout).wanted == 0 and to_sign(rollout).hosts == ()
    path = tmp_path / plan_file.NAME
    path.write_text(plan_file.content(rollout), encoding="utf-8")
    refusal = signing(asked(path, people[0]), rollout.hash[:8])[1]
    assert "Next step" in refusal
