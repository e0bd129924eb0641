# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks of pgrunbook print: steps and what they found, without Ansible's own lines."""

from __future__ import annotations

DOCUMENTATION = """
name: pgrunbook
type: stdout
short_description: One line a step, and what was found
description:
  - Prints a line with its time for each step of the runbook, what a step shows, and the reason of
    a failure once. Tasks that are skipped, or only check and keep values, print nothing.
  - Of several hosts, a step is one line for all of them as long as they go together, and a host
    that goes its own way prints when it begins and how it ended.
  - With C(-v) and more it is Ansible's own callback, ANSIBLE_STDOUT_CALLBACK=default is that as
    well.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

import atexit
import os
import re
import shlex
import textwrap
import time
from collections.abc import Iterable
from typing import Any

from ansible import constants, context
from ansible.executor.task_result import CallbackTaskResult
from ansible.playbook.block import Block
from ansible.playbook.play import Play
from ansible.playbook.task import Task
from ansible.plugins.callback.default import CallbackModule as Default

STEPS = "pgrunbook_"
COLLECTION = "pgrunbook.pgrunbook"
QUIET = frozenset(
    f"{STEPS}{name}"
    for name in ("event", "turn", "rollout", "rollout_end", "overview", "question", "watch", "run")
)
RARE = frozenset({f"{STEPS}index_trial"})
"""Steps that are told where they have changed something only."""
WRITING = frozenset(f"{STEPS}{name}" for name in ("column", "index", "index_trial", "backfill"))
SHOWN = frozenset({"ansible.builtin.debug", "debug"})
WIDTH = 98
CANARY_HOST = "Canary host"  # as a play is called, and what a host without others is not
OWN_WAY = "host_pinned"  # the strategy of plays in which each host goes its own way

RED = constants.COLOR_ERROR
YELLOW = constants.COLOR_WARN
GREEN = constants.COLOR_OK
COLOURS = (
    (re.compile(r"\s*(FAIL|NO-GO|BREACHED|REFUSED|ALTERED|THE RUN CAN ONLY END NO-GO)\b"), RED),
    (re.compile(r"\s*(failed|stopped|no answer|not seen)  "), RED),
    (re.compile(r"\s*(WARN|([a-z]+( [a-z]+)? +)?TO DO)\b"), YELLOW),
    (re.compile(r"\s*(GO|ROLLED BACK)\b"), GREEN),
)
"""By how a line begins, the colour of it."""
LABEL = re.compile(r"(?:[A-Z][A-Z-]+  +)?")
"""What the rest of a line that is wrapped stands behind."""


class CallbackModule(Default):  # type: ignore[misc]
    """Ansible's own callback, as soon as anybody wants more than the steps."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "pgrunbook"

    def __init__(self) -> None:
        super().__init__()
        self._heading = self._play_name = ""
        self._batch = 0
        self._hosts = 1
        self._together = True
        self._began: dict[tuple[str, str], float] = {}
        self._step: _Step | None = None
        self._said = ""
        self._writes = False
        atexit.register(self._interrupted, os.getpid())

    @property
    def _verbose(self) -> bool:
        return bool(self._display.verbosity > 0)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        if self._verbose:
            super().v2_playbook_on_play_start(play)
            return
        self._end_step()
        hosts = play.get_variable_manager()._inventory.get_hosts(play.hosts)
        self._hosts, self._together = len(hosts), play.strategy != OWN_WAY
        name = play.get_name().strip()
        if (
            self._hosts == 1
            and len(play.get_variable_manager()._inventory.get_hosts("databases")) == 1
        ):
            name = name.replace(CANARY_HOST, "Run")
        self._batch = self._batch + 1 if name == self._play_name else 1
        self._play_name = name
        self._heading = f"{name} ({self._batch})" if self._batch > 1 else name

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        if self._verbose:
            super().v2_playbook_on_task_start(task, is_conditional)
            return
        self._end_step()

    def v2_runner_on_start(self, host: Any, task: Task) -> None:
        if self._verbose:
            super().v2_runner_on_start(host, task)
            return
        self._began[host.name, task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_on_ok(result)
            return
        self._handle_warnings(result.result)
        action = _action(result.task)
        self._writes = self._writes or action == f"{STEPS}approval"
        if action in SHOWN:
            self._end_step()
            self._show(str(result.result.get("msg", "")))
        elif action == f"{STEPS}turn":
            self._turn(result)
        elif action.startswith(STEPS) and action not in QUIET:
            self._done(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        if self._verbose:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        if ignore_errors:
            return
        self._end_step()
        action = _action(result.task)
        if action.startswith(STEPS) and action not in QUIET:
            host = f"{result.host.name}  " if self._hosts > 1 and not result.task.run_once else ""
            told = f"  {host}{_named(result.task.get_name())}"
            self._line(f"{told:<{WIDTH - 22}}  FAILED after {self._seconds(result):.1f} s", RED)
        if not _is_rescued(result.task):
            # Who says no at the prompt has not failed.
            colour = None if action == f"{STEPS}question" else RED
            self._reason(str(result.result.get("msg", "no reason given")), colour)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_on_unreachable(result)
            return
        self._end_step()
        self._reason(f"{result.host.name} is unreachable: {result.result.get('msg', '')}", RED)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_on_skipped(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_item_on_ok(result)

    def v2_runner_item_on_skipped(self, result: CallbackTaskResult) -> None:
        if self._verbose:
            super().v2_runner_item_on_skipped(result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        if self._verbose:
            super().v2_playbook_on_include(included_file)

    def v2_playbook_on_no_hosts_matched(self) -> None:
        if self._verbose:
            super().v2_playbook_on_no_hosts_matched()

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        if self._verbose:
            super().v2_playbook_on_no_hosts_remaining()

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._writes = False
        if self._verbose:
            super().v2_playbook_on_stats(stats)
            return
        self._end_step()

    def _interrupted(self, playbook: int) -> None:
        """The last line after Ctrl-C, once a run has begun: Ansible says no more than that."""
        if self._writes and os.getpid() == playbook:
            given = " ".join(f"-i {shlex.quote(each)}" for each in context.CLIARGS["inventory"])
            self._lines(
                [
                    "",
                    "What was committed is kept. How it stands, what is missing now, how to go on "
                    "and back:",
                    f"  ansible-playbook {given} playbooks/status.yml",
                ]
            )

    def _turn(self, result: CallbackTaskResult) -> None:
        """Where each host goes its own way: that it begins, and how it ended."""
        text = str(result.result.get("text", ""))
        if text and not self._together:
            self._lines(f"  {line}" for line in text.split("\n"))

    def _done(self, result: CallbackTaskResult) -> None:
        """A step that a host has done. Where all go together it is told once they all have."""
        changed = bool(result.result.get("changed"))
        if not self._together or (_action(result.task) in RARE and not changed):
            return
        if self._step is None:
            writes = _action(result.task) in WRITING and not result.task.check_mode
            word = "would change" if result.task.check_mode else "changed"
            self._step = _Step(result.task.get_name(), word, writes=writes)
        self._step.hosts += 1
        self._step.seconds = max(self._step.seconds, self._seconds(result))
        self._step.changed += changed
        if self._hosts == 1:
            self._end_step()

    def _end_step(self) -> None:
        """Print the line of the step that was done, if there is one."""
        step, self._step = self._step, None
        if step:
            hosts = f"{step.hosts} host{'s'[: step.hosts > 1]}" if self._hosts > 1 else ""
            changed = step.word if step.changed else "nothing to do" if step.writes else ""
            told = "  ".join(filter(None, (changed, hosts, f"{step.seconds:6.1f} s")))
            self._line(f"  {_named(step.name):<{WIDTH - 2 - len(told)}}{told}")

    def _seconds(self, result: CallbackTaskResult) -> float:
        began = self._began.get((result.host.name, result.task._uuid))
        return 0.0 if began is None else time.monotonic() - began

    def _show(self, text: str) -> None:
        """What a step shows, a line at a time, each in its colour."""
        self._line("")
        self._lines(text.rstrip("\n").split("\n"))
        self._said = f"{self._said} {_words(text)}"

    def _reason(self, why: str, colour: str | None) -> None:
        """Why something failed, as far as that has not just been said."""
        if _words(why) in self._said:
            return
        self._line("")
        for paragraph in why.strip("\n").split("\n"):
            if paragraph and _words(paragraph) in self._said:
                continue
            for line in _wrapped(paragraph, ""):
                self._line(line, colour)
        self._said = f"{self._said} {_words(why)}"

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            colour = next((c for begin, c in COLOURS if begin.match(line)), None)
            for part in _shown(line):
                self._line(part, colour)

    def _line(self, text: str, colour: str | None = None) -> None:
        """A line, below the heading of its play."""
        if self._heading:
            self._display.display(f"\n{self._heading}")
            self._heading = ""
        self._display.display(text, color=colour)


class _Step:
    """A step that so many hosts have done, of which some have changed anything; seconds is how long
    it took on the slowest, word is what it says of a change, and writes is whether it is there to
    make any."""

    def __init__(self, name: str, word: str, *, writes: bool) -> None:
        self.name, self.word, self.writes = name, word, writes
        self.hosts, self.changed, self.seconds = 0, 0, 0.0


def _action(task: Task) -> str:
    """The module of a task: of the collection's, the name that it has in this tree."""
    collection, _, name = str(task.action).rpartition(".")
    return name if name.startswith(STEPS) and collection == COLLECTION else str(task.action)


def _named(name: str) -> str:
    """The name of a task without that of its role."""
    return name.partition(" : ")[2] or name


def _is_rescued(task: Task) -> bool:
    """Whether a failure of the task is taken up, and told by what comes after it."""
    parent = task._parent
    while parent is not None:
        if isinstance(parent, Block) and parent.rescue:
            return True
        parent = parent._parent
    return False


def _shown(line: str) -> list[str]:
    """A line as a step shows it. What is indented, or has quoted names, may be SQL that somebody
    copies: a break within a name would make it another one."""
    if line[:1].isspace() or '"' in line:
        return [line]
    return _wrapped(line, " " * len(LABEL.match(line)[0]))  # type: ignore[index]


def _wrapped(line: str, hanging: str) -> list[str]:
    """A line, wrapped at words where it is too long."""
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=hanging, break_on_hyphens=False, break_long_words=False
    ) or [""]


def _words(text: str) -> str:
    return " ".join(text.split())
