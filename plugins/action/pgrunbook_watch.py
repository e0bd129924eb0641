# SPDX-License-Identifier: GPL-3.0-or-later
"""Show how the runs of all hosts stand, again and again, here on the controller.

The module of its name has the documentation."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ansible.module_utils
from ansible.utils.display import Display

PROGRAM = str(Path(__file__).resolve().parents[2] / "module_utils")
if PROGRAM not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(PROGRAM)

from ansible.module_utils.pgrunbook.action import RunbookAction, plain_vars

ARGUMENTS: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "looks": {"type": "int", "default": 0},
    "command": {"type": "str", "default": "ansible-playbook"},
}
EVERY_SECONDS = 1.0
AT_ONCE = 8  # connections
ON_A_TERMINAL = sys.stdout.isatty()  # of ansible-playbook; a task's process has none
HOME = "\x1b[H"
CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"

display = Display()


class Look(NamedTuple):
    """What one look at a host found: the result of pgrunbook_run_info, as far as the ledger alone
    has it, its lines, and why there was no answer, else empty."""

    host: str
    told: Mapping[str, Any]
    lines: tuple[str, ...]
    refused: str = ""


class ActionModule(RunbookAction):
    """Connects from here, and not through the machine that modules run on."""

    _requires_connection = False
    mistake = "where the runs are watched. Nothing was changed."

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        _, arguments = self.validate_argument_spec(ARGUMENTS)
        logins = {
            host: plain_vars(task_vars["hostvars"][host]["runbook_login"])
            for host in arguments["hosts"]
        }
        looks = arguments["looks"] or (0 if ON_A_TERMINAL else 1)
        playbook, done = os.getppid(), 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while os.getppid() == playbook:
                began, done = time.monotonic(), done + 1
                looked = pool.map(partial(_look, arguments["command"]), logins, logins.values())
                page = _page(list(looked))
                if done == looks:
                    return {"changed": False, "text": page}
                display.display(_in_place(page), newline=False)
                time.sleep(max(EVERY_SECONDS - (time.monotonic() - began), 0.0))
        return {"changed": False, "text": ""}


def _look(command: str, host: str, login: Mapping[str, Any]) -> Look:
    """Read the ledger of a host once. command is how what a person types begins."""
    import psycopg

    from ansible.module_utils.pgrunbook import ledger
    from ansible.module_utils.pgrunbook.catalog import trusted_ledger
    from ansible.module_utils.pgrunbook.core.connection import connect
    from ansible.module_utils.pgrunbook.core.errors import RunbookError
    from ansible.module_utils.pgrunbook.core.values import plain
    from ansible.module_utils.pgrunbook.report import status

    try:
        with connect(login, name="watch", read_only=True) as conn:
            trusted_ledger.require_plain_ledger(conn)
            runs = ledger.list_runs(conn)
            moments = ledger.moments_of(conn, runs)
    except (RunbookError, psycopg.Error) as error:
        return Look(host, {}, (), str(error))
    lines = [line for run in runs[:1] for line in status.of_run(run, moments.get(run.id), command)]
    told = {"runs": plain(runs), "moments": plain(moments), "altered": []}
    return Look(host, told, tuple(lines or ["No run yet."]))


def _page(looks: list[Look]) -> str:
    """The newest run of a single host, or a line for each of several."""
    from ansible.module_utils.pgrunbook.core import printable
    from ansible.module_utils.pgrunbook.rollout import ended, overview

    now = datetime.now().astimezone().strftime("%H:%M:%S")
    if len(looks) == 1:
        (look,) = looks
        return "\n".join([now, *map(printable.line, look.lines or [look.refused])])
    found = [
        overview.no_answer(look.host, look.refused)
        if look.refused
        else overview.of_runs(look.host, look.told)
        for look in looks
    ]
    return f"{now}  {ended.counted(found)}\n\n{ended.table(found)}".rstrip()


def _in_place(page: str) -> str:
    """A page in place of the one before, cut to the terminal."""
    size = shutil.get_terminal_size()
    lines = [line[: size.columns - 1] for line in page.split("\n")][: size.lines - 1]
    return HOME + "".join(f"{line}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW
