# SPDX-License-Identifier: GPL-3.0-or-later
"""Call the module pgrunbook_backfill until it is done, with a line of progress for each slice."""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleError
from ansible.utils.display import Display

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, imported, main_of
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.rollout import progress, tally

imported("ansible.module_utils.pgrunbook.report.metrics")

LOST = "lost"  # codes of errors of the module
AT_WORK = "at_work"
WAITING_SECONDS = 15.0  # for which the module waits itself, so that a line is shown as often
ADDED_UP = ("rows_changed", "rows_lost", "batches_lost")
WATCHED_SECONDS = 60.0  # that a call may last whose lines are shown at once
UNWATCHED_SECONDS = (0.0, 10.0, 20.0, 30.0)  # the first calls, and all others, where they are not
LOOK_SECONDS = 0.2
IN_PLACE = sys.stdout.isatty()  # of ansible-playbook, which imports this; a task's process has none
CLEAR_REST = "\x1b[K"

display = Display()


class ActionModule(RunbookAction):
    """Ansible shows nothing of a module until it returns."""

    main = main_of(__file__)
    mistake = (
        "where the calls of the backfill are made. Every batch that the ledger has is kept; "
        "playbooks/status.yml tells how far the run is."
    )

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Call the module until it is done. Where its connection is lost it waits for a primary for
        a few seconds, and is called again for as long as the run waits."""
        arguments, playbook = dict(self._task.args), os.getppid()
        total, outage = dict.fromkeys(ADDED_UP, 0), _Outage(arguments["run"])
        with self._watched(playbook, _Hosts.of(task_vars, arguments)) as watched:
            while True:
                if os.getppid() != playbook:
                    raise AnsibleError("ansible-playbook is gone, and nobody watches the backfill.")
                given = {**outage.bounded(arguments), **watched.options()}
                result = self._call(given, task_vars)
                watched.show_rest(result.get("lines") or [])
                if outage.goes_on(result):
                    arguments = _after(arguments, result.get("seen"))
                    watched.show(outage.line(result["msg"]))
                    continue
                if result.get("failed") or self._task.check_mode:
                    return result
                total = {key: total[key] + result.get(key, 0) for key in ADDED_UP}
                seen = {"rows": result["rows_done"], "batches": result["batches_done"]}
                arguments = _after(arguments, seen, result.get("ansible_facts"))
                if result["done"] or result["stopped"]:
                    facts = {"ansible_facts": {"runbook_run": arguments["run"]}}
                    return {**result, **total, "changed": total["rows_changed"] > 0, **facts}

    @contextmanager
    def _watched(self, playbook: int, hosts: _Hosts) -> Iterator[_Lines]:
        """How lines of progress are shown: at once, where the module runs beside this process and
        as the same user."""
        local = self._connection.transport == "local" and not self._play_context.become
        if self._task.check_mode or not local:
            lines = _Lines(hosts)
            yield lines
            lines.end()
            return
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as folder:
            lines = _Lines(hosts, os.path.join(folder, "progress"))
            reader = threading.Thread(target=lines.read, args=(playbook,), daemon=True)
            reader.start()
            try:
                yield lines
            finally:
                lines.over.set()
                reader.join()
                lines.end()


class _Lines:
    """The lines of progress of a call, of which those that come through the FIFO are shown at once,
    and the others when the call has returned."""

    def __init__(self, hosts: _Hosts, path: str = "") -> None:
        self._hosts, self._path, self._calls, self._shown = hosts, path, 0, 0
        self._open = False
        self.over = threading.Event()
        if path:
            os.mkfifo(path, 0o600)
            # Also open for writing, so that it does not end with the first call.
            self._fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def options(self) -> dict[str, Any]:
        """What the next call is told."""
        seconds = UNWATCHED_SECONDS[min(self._calls, len(UNWATCHED_SECONDS) - 1)]
        self._calls, self._shown = self._calls + 1, 0
        if self._path:
            return {"seconds": WATCHED_SECONDS, "progress_file": self._path}
        return {"seconds": seconds}

    def read(self, playbook: int) -> None:
        """Show each line that comes, until that is over or the playbook is gone: then nobody reads,
        and the module learns it."""
        pending = b""
        while not self.over.is_set() and os.getppid() == playbook:
            if select.select([self._fifo], [], [], LOOK_SECONDS)[0]:
                *lines, pending = (pending + os.read(self._fifo, 65536)).split(b"\n")
                for line in lines:
                    self._told(json.loads(line))
        os.close(self._fifo)

    def show_rest(self, lines: list[str]) -> None:
        """Show those of a call that did not come through the FIFO."""
        deadline = time.monotonic() + 1
        while self._path and self._shown < len(lines) and time.monotonic() < deadline:
            time.sleep(0.01)  # the last one is on its way
        for line in lines[self._shown :]:
            self.show(line)

    def show(self, line: str) -> None:
        """Show a line, with the host before it where there are several. On a terminal the lines of
        a single host take each other's place."""
        self._shown += 1
        if self._hosts.name or not IN_PLACE:
            display.display(f"  {self._hosts.name}{line}")
            return
        shown = f"  {line}"[: shutil.get_terminal_size().columns - 1]
        display.display(f"\r{shown}{CLEAR_REST}", newline=False)
        self._open = True

    def end(self) -> None:
        """What comes next begins a line of its own."""
        if self._open:
            display.display("")

    def _told(self, shown: dict[str, Any]) -> None:
        self.show(shown["line"])
        if more := self._hosts.line(shown):
            display.display(f"  {more}")


class _Hosts:
    """What stands before each line where several hosts are at work, and the line for all of them.
    planned has the rows that each has to fill."""

    def __init__(self, host: str, planned: dict[str, int], *, filling: bool) -> None:
        self._host, self._planned, self._filling = host, planned, filling
        self.name = f"{printable.line(host)}  " if len(planned) > 1 else ""

    @classmethod
    def of(cls, task_vars: dict[str, Any], arguments: dict[str, Any]) -> _Hosts:
        """Those of the rollout that a task belongs to."""
        rows = (task_vars.get("runbook_rollout") or {}).get("rows") or {}
        filling = arguments.get("state", "present") == "present"
        return cls(str(task_vars.get("inventory_hostname", "")), dict(rows), filling=filling)

    def line(self, shown: dict[str, Any]) -> str:
        """The line for all hosts, if it is time for one. A rollback has none."""
        if not self.name or not self._filling:
            return ""
        at = progress.Working(
            self._host, shown["rows_done"], shown["rows_per_second"], shown["held"]
        )
        folder = tally.folder(constants.DEFAULT_LOCAL_TMP)
        progress.note(folder, at)
        return printable.line(progress.line_if_due(folder, self._planned))


class _Outage:
    """For how long there has been no primary, and how long the run waits for one, in seconds."""

    def __init__(self, run: dict[str, Any]) -> None:
        self._patience = run.get("reconnect_seconds") or 0
        self._since = 0.0

    def bounded(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call that waits for a few seconds only, so that there is a line."""
        waits = max(min(self._left(), WAITING_SECONDS), 0)
        run = {**arguments["run"], "reconnect_seconds": round(waits)}
        return {**arguments, "run": run}

    def goes_on(self, result: dict[str, Any]) -> bool:
        """Whether the module is to be called again, because it waited in vain and may go on."""
        # A session that was cut off may still hold its lock.
        lost = result.get("code") == LOST or (self._since and result.get("code") == AT_WORK)
        if not lost:
            self._since = 0.0
            return False
        self._since = self._since or time.monotonic() - WAITING_SECONDS
        return self._left() > 0

    def line(self, why: str) -> str:
        """A line of progress while there is no primary."""
        waited = time.monotonic() - self._since
        return f"waiting for a primary, {waited:.0f} of at most {self._patience} s: {_brief(why)}"

    def _left(self) -> float:
        return self._patience - (time.monotonic() - self._since if self._since else 0.0)


def _brief(why: str) -> str:
    """What a message says last of all, without who connects where and what to do."""
    said = why.partition("Last of all: ")[2].partition(" Next step:")[0].partition(" What was")[0]
    return said.rpartition(" as ")[2].partition(": ")[2] or said or why


def _after(
    arguments: dict[str, Any], seen: dict[str, Any] | None, facts: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of the next call: with what was seen to be committed, and the server that the
    run is on now."""
    run = arguments["run"]
    if facts:
        run = {**run, "server": facts["runbook_run"]["server"]}
    known = seen if seen and seen["rows"] is not None else arguments.get("seen")
    return {**arguments, "run": run, **({"seen": known} if known else {})}
