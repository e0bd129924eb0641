# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of events, and hooks that are told of them: what is refused, and what fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.notify import hooks, log
from ansible.module_utils.pgrunbook.notify.delivery import Deliveries
from ansible.module_utils.pgrunbook.notify.happened import NOTIFIED, Happened, now
from ansible.module_utils.pgrunbook.notify.tell import About, Teller
from tests.listener import SECRET, Listener

URL = "https://hooks.example.net/services/"


def event(kind: str = "failed", **detail: Any) -> Happened:
    return Happened(now(), "r-1", "db1", "phase9", kind, detail, "controller", dry_run=False)


BAD = {
    "no list": ({"url": URL}, "runbook_notify is no list"),
    "a text": ("true", "runbook_notify is no list"),
    "no mapping": ([{"url": URL}, SECRET], "Entry 1 .* is no mapping"),
    "neither": ([{"timeout": 3}], "Entry 0 .* neither command nor url"),
    "both": ([{"command": ["x"], "url": URL + SECRET}], "both command and url"),
    "unknown key": ([{"url": URL, "retries": 3}], "has the key 'retries'"),
    "unknown event": ([{"url": URL, "events": ["finnished"]}], "the event 'finnished'"),
    "event, no list": ([{"url": URL, "events": "failed"}], "events that are no list"),
    "a shell's command": ([{"command": f"page {SECRET}"}], "command that is no list of texts"),
    "empty command": ([{"command": []}], "command that is no list of texts"),
    "number in a command": ([{"command": ["x", 1]}], "command that is no list of texts"),
    "another scheme": ([{"url": f"ftp://h/{SECRET}"}], "none of http or https"),
    "no host": ([{"url": f"https:///{SECRET}"}], "none of http or https"),
    "a user": ([{"url": f"https://u:{SECRET}@h/"}], "has a user in it"),
    "a line break": ([{"url": f"https://h/{SECRET}\nX: y"}], "none of http or https"),
    "no port": ([{"url": f"https://h:x/{SECRET}"}], "none of http or https"),
    "timeout of 0": ([{"url": URL, "timeout": 0}], "timeout that is none"),
    "timeout of an hour": ([{"url": URL, "timeout": 3600}], "timeout that is none"),
    "no timeout": ([{"url": URL, "timeout": "soon"}], "timeout that is none"),
    "throttled after": ([{"url": URL, "throttled_after": -1}], "throttled_after that is none"),
    "header with a break": ([{"url": URL, "headers": {"A": f"{SECRET}\n"}}], "has headers that"),
    "headers, no mapping": ([{"url": URL, "headers": [SECRET]}], "has headers that"),
}


@pytest.mark.parametrize("given", BAD)
def test_what_makes_no_sense_is_refused_by_its_number_and_without_secrets(given: str) -> None:
    entries, says = BAD[given]
    with pytest.raises(RunbookError, match=f"{says}.*Next step: ") as refused:
        hooks.hooks(entries)
    assert SECRET not in str(refused.value)


def test_a_hook_has_defaults_and_is_shown_without_its_secrets() -> None:
    by_url, by_command = hooks.hooks(
        [{"url": f"{URL}{SECRET}?a={SECRET}"}, {"command": ["/bin/page", SECRET]}]
    )
    assert (by_url.events, by_url.timeout, by_url.throttled_after) == (NOTIFIED, 5.0, 60.0)
    assert str(by_url) == "runbook_notify[0] (https://hooks.example.net)"
    assert str(by_command) == "runbook_notify[1] (command /bin/page)"


@pytest.fixture
def web() -> Iterator[dict[str, Listener]]:
    with ExitStack() as stack:
        found = {
            "refusing": Listener(500),
            "moved": Listener(302),
            "slow": Listener(200, seconds=20),
            "gone": Listener(),
        }
        found["gone"].close()
        for each in ("refusing", "moved", "slow"):
            stack.callback(found[each].close)
        yield found


def test_what_fails_is_a_warning_without_secrets_in_a_bounded_time(
    web: dict[str, Listener], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    hang = f"sleep 3600 & echo $! > {pid}; wait"
    given = [
        ({"command": ["/bin/sh", "-c", f"exit 3 # {SECRET}"]}, "ended with status 3"),
        ({"command": ["/nowhere/page", SECRET]}, "failed (No such file or directory)"),
        ({"command": ["/bin/sh", "-c", hang], "timeout": 1}, "gave no answer within 1 s"),
        ({"command": ["/bin/true"]}, ""),
        ({"url": web["refusing"].url}, "answered 500"),
        ({"url": web["gone"].url}, "failed (Connection refused)"),
        ({"url": web["moved"].url}, "answered 302"),
        ({"url": web["slow"].url, "timeout": 1}, "gave no answer within 1 s"),
    ]
    found = hooks.hooks([entry for entry, _ in given])
    deliveries, began = Deliveries(), time.monotonic()
    for hook in found:
        deliveries.begin(hook, event(why="no lock"))
    warnings = deliveries.end()
    assert time.monotonic() - began < 7
    assert warnings == [
        f"{hook} was not told: it {why}. The run goes on."
        for hook, (_, why) in zip(found, given, strict=True)
        if why
    ]
    assert SECRET not in str(warnings)
    assert len(web["moved"].got) == 1, "what is meant for one address goes to no other"
    assert ended(int(pid.read_text())), "what a hanging command began stays"


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to take notice."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def write(path: str, host: str) -> None:
    for number in range(300):
        told = Happened(now(), "r", host, "p", "progress", {"n": number, "x": "y" * 3000},
                        "ledger", dry_run=False)  # fmt: skip
        assert log.append(path, told) == ""


def test_lines_of_processes_that_write_at_once_are_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "events.log")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(path, host)) for host in ("a", "b", "c")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    events = [json.loads(line) for line in Path(path).read_text().splitlines()]
    for host in ("a", "b", "c"):
        assert [e["detail"]["n"] for e in events if e["host"] == host] == list(range(300))
    assert Path(path).stat().st_mode & 0o777 == 0o640 & ~os.umask(os.umask(0o022))


def test_a_log_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "missing/log", tmp_path, tmp_path / "fifo", Path("/dev/full")):
        warning = log.append(str(path), event())
        assert warning.startswith(f"The log cannot be written to {path}: ")
        assert "Next step: " in warning


def progress(seconds: float, held: float, *reasons: str) -> dict[str, Any]:
    detail = {"slice_seconds": seconds, "held_seconds": held, "held": list(reasons)}
    return {"at": now(), "run": "r-1", "kind": "progress", "detail": detail, "version": "1"}


def test_throttling_is_told_once_when_it_has_lasted(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    command = [sys.executable, "-c", code, str(kept)]
    found = hooks.hooks(
        [
            {"command": command, "throttled_after": 60, "timeout": 30},
            {"command": command, "events": ["failed"]},
        ]
    )
    teller = Teller(str(tmp_path / "log"), found, About("db1", "phase9", "r-1", dry=False))

    def told() -> list[dict[str, Any]]:
        assert teller.end() == []
        return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []

    lag = "replay lag 12 s > 10 s"
    teller.ledger([progress(30, 29, lag), progress(29, 29, lag)])
    teller.ledger([progress(5, 0), progress(30, 30, lag), progress(60, 60, "paused by bob")])
    teller.ledger([progress(30, 30, lag), progress(29, 29, lag)])
    assert told() == [], "it never lasted for a minute at a time"
    teller.ledger([progress(5, 5, lag), progress(600, 600, lag)])
    (once,) = told()
    assert (once["kind"], once["detail"]) == ("throttled", {"seconds": 64.0, "reasons": [lag]})
    assert once["text"] == f"db1, phase9 run r-1: has been throttled for 64 s: {lag}"
    teller.ledger([progress(5, 0), progress(70, 70, lag)])
    assert len(told()) == 2, "another throttling"
    logged = [json.loads(line)["kind"] for line in (tmp_path / "log").read_text().splitlines()]
    assert logged.count("throttled") == 2 and logged.count("progress") == 11


def test_a_dry_run_tells_the_log_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    found = hooks.hooks([{"command": ["/usr/bin/touch", str(kept)]}])
    teller = Teller(str(tmp_path / "log"), found, About("db1", "phase9", "r-1", dry=True))
    teller.happened("plan_refused", {"why": "no"})
    assert teller.end() == [] and not kept.exists()
    assert json.loads((tmp_path / "log").read_text())["dry_run"] is True


@pytest.mark.parametrize("kind", NOTIFIED)
def test_every_kind_has_a_sentence(kind: str) -> None:
    detail = {"scope": "plan", "title": "T", "by": "bob", "seconds": 61.0, "reasons": ["r"],
              "verdict": "GO", "why": "W\x1b"}  # fmt: skip
    said = event(kind, **detail).text()
    assert said.startswith("db1, phase9 run r-1: ") and "\x1b" not in said
    assert json.loads(event(kind, **detail).body())["text"] == said
