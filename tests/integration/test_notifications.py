# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told of events while playbooks run: the log, commands and URLs; and that nothing of it
changes a run, or shows a secret."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import Database, Played, approval_of
from tests.integration.steps import Module
from tests.listener import SECRET, Listener

Phase = dict[str, Any]
Playbook = Callable[..., Played]

EVENTS = "SELECT body FROM pgrunbook.event ORDER BY id"


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


def told_to(folder: Path, *hooks: dict[str, Any]) -> list[str]:
    """The options of a playbook that writes a log in a folder, and tells hooks."""
    file = folder / "notify.yml"
    given = {"runbook_log": str(folder / "events.log"), "runbook_notify": list(hooks)}
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    return ["-e", f"@{file}"]


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.log").read_text().splitlines()]


def keeping(path: Path) -> list[str]:
    """A command that appends what it gets to a file."""
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    return [sys.executable, "-c", code, str(path)]


def kinds(events: list[dict[str, Any]], source: str = "controller") -> list[str]:
    return [event["kind"] for event in events if event["source"] == source]


def test_a_run_and_its_rollback_are_told_in_the_order_of_the_ledger(
    database: Database,
    approved: Playbook,
    module: Module,
    playbook: Playbook,
    phase: Phase,
    tmp_path: Path,
    listener: Listener,
) -> None:
    kept = tmp_path / "kept"
    options = told_to(
        tmp_path,
        {"url": listener.url, "headers": {"Authorization": f"Bearer {SECRET}"}},
        {"command": keeping(kept), "events": ["finished", "rolled_back"]},
        {"command": ["/bin/sh", "-c", f"exit 3 # {SECRET}"], "events": ["started"]},
    )
    played = approved(database, phase, *options, "-vvvv")
    assert played.status == 0, "a hook that fails changes nothing"
    assert SECRET not in played.output
    warning = "runbook_notify[2] (command /bin/sh) was not told: it ended with status 3."
    assert " ".join(played.output.split()).count(warning) >= 1
    run = database.sql("SELECT id FROM pgrunbook.run")[0]["id"]
    approval = approval_of(module, database, phase, rollback_of=run)
    undone = playbook(database.login, "rollback", "-e", f"run={run}", "-e", approval, *options)
    assert undone.status == 0, undone.output
    events = logged(tmp_path)
    of_ledger = [event for event in events if event["source"] == "ledger"]
    in_ledger = [row["body"] for row in database.sql(EVENTS)]
    same = ("kind", "run", "detail", "version")
    assert [{"at": event["time"], **{key: event[key] for key in same}} for event in of_ledger] == (
        in_ledger
    )
    ends = ["started", "finished", "plan_made", "started", "rolled_back"]
    assert kinds(events) == ["plan_made", *ends]
    notified = ["started", "finished", "started", "rolled_back"]
    assert [event["kind"] for event in listener.got] == notified
    assert [json.loads(line)["kind"] for line in kept.read_text().splitlines()] == [
        "finished",
        "rolled_back",
    ]
    assert listener.headers[0]["Authorization"] == f"Bearer {SECRET}"
    finished = listener.got[1]
    assert (finished["run"], finished["host"], finished["phase"]) == (run, "test", "phase3")
    assert finished["detail"]["verdict"] == "GO" and "finished, GO" in finished["text"]
    assert (tmp_path / "events.log").stat().st_mode & 0o777 == 0o640


def test_a_dry_run_is_logged_and_pages_nobody(
    database: Database, playbook: Playbook, phase: Phase, tmp_path: Path, listener: Listener
) -> None:
    options = told_to(tmp_path, {"url": listener.url})
    database.sql("ALTER TABLE session_summaries ADD snapshot_ip_type text")
    for arguments in (["--check"], []):
        assert playbook(database.login, "phase3", *arguments, *options, phase=phase).status != 0
    refused, again = logged(tmp_path)
    assert (refused["kind"], refused["dry_run"], again["dry_run"]) == ("plan_refused", True, False)
    assert "has both" in refused["detail"]["why"]
    assert [event["kind"] for event in listener.got] == ["plan_refused"]


def test_an_entry_that_makes_no_sense_is_refused_before_anything_happens(
    database: Database, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    options = told_to(tmp_path, {"url": "https://localhost/x"}, {"url": f"ftp://{SECRET}"})
    played = playbook(database.login, "phase3", "--check", *options, phase=phase)
    told = " ".join(played.output.split())
    assert played.status != 0 and SECRET not in told
    assert "Entry 1 of runbook_notify (the first one is 0) has a url that is none of http" in told
    assert not (tmp_path / "events.log").exists()
