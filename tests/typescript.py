# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what a person at a terminal sees, for docs/example: `python -m tests.typescript`.

Needs a demo that nobody has run yet: make demo-clean, then
`python -m demo.server start --sessions 300000`. Every line is as it appeared, on a terminal of 120
columns; a line that was rewritten in its place is there once, as it was last.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

from tests.integration.terminal import QUESTION, Terminal

ROWS, COLUMNS = 50, 120
FOLDER = Path("docs/example")
RUN = "ansible-playbook playbooks/phase3.yml"
CONTROL = "ansible-playbook playbooks/control.yml -e do="
AT_WORK = r"rows  +\d+\.\d%.*HOT [1-9]"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f]")


class Typescript:
    """A file that terminals are recorded to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("", encoding="utf-8")

    def note(self, text: str) -> None:
        """A line that says what a person did."""
        self._write(f"# {text}")

    def play(self, command: str, *answers: str) -> None:
        """Run a command, and answer its questions: yes types what is asked for."""
        with started(command) as terminal:
            answered(terminal, answers)
            self.end(command, terminal)

    def end(self, command: str, terminal: Terminal) -> None:
        """Read a command to its end."""
        status = terminal.status()
        shown = "\n".join(settled(terminal.output))
        self._write(f"$ {command}\n{shown}\n[exit status {status}]")

    def _write(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n\n")


def started(command: str) -> Terminal:
    """A command on a terminal of its own."""
    terminal = Terminal(shlex.split(command), Path.cwd())
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    return terminal


def answered(terminal: Terminal, answers: tuple[str, ...]) -> int:
    """Answer one question after the other; where the last one ends."""
    at = 0
    for answer in answers:
        if answer == "yes":
            at = terminal.approve(at)
        else:
            at = terminal.wait_for(QUESTION, at)
            terminal.answer(answer)
    return at


def settled(output: str) -> Iterator[str]:
    """The lines that are left on the screen."""
    for line in ESCAPES.sub("", output).rstrip().split("\n"):
        left = [part for part in line.split("\r") if part.strip()]
        text = left[-1].rstrip() if left else ""
        if text != "[":  # Ansible's pause, before it reads
            yield text


def the_good_way(folder: Path) -> str:
    """Dry run, and the run; the run's id."""
    script = Typescript(folder / "terminal.txt")
    script.play(f"{RUN} --check")
    script.play(RUN, "yes", "yes")
    return newest_run()


def the_other_ways(folder: Path, run: str) -> None:
    """Rollback; then declined, paused, resumed, aborted, gone on with, rolled back, validated."""
    script = Typescript(folder / "terminal-odds.txt")
    rollback = "ansible-playbook playbooks/rollback.yml -e run="
    script.play(f"{rollback}{run}", "yes")
    script.play("ansible-playbook playbooks/validate.yml")
    script.note("Somebody says no.")
    script.play(RUN, "no")
    script.note("Approved; from another terminal it is slowed down, paused, resumed and aborted.")
    with started(RUN) as terminal:
        at = terminal.approve()
        asked = terminal.wait_for(QUESTION, at)
        script.play(f"{CONTROL}throttle -e rows_per_second=5000")
        terminal.approve(at)
        terminal.wait_for(AT_WORK, asked)
        script.play(f"{CONTROL}pause")
        terminal.wait_for("paused by", asked)
        script.play("ansible-playbook playbooks/status.yml")
        script.play(f"{CONTROL}resume")
        script.play(f"{CONTROL}abort")
        script.note("The terminal of the run, from its beginning:")
        script.end(RUN, terminal)
    script.play("ansible-playbook playbooks/status.yml")
    script.note("The same command goes on where it stopped.")
    script.play(RUN, "yes", "yes")
    script.play("ansible-playbook playbooks/status.yml")


def newest_run() -> str:
    reports = Path("reports").glob("phase3-*/report.json")
    return max(p.parent.name for p in reports if not p.parent.name.endswith(("-plan", "-rollback")))


def main() -> None:
    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm-256color", PYTHONUNBUFFERED="1")
    FOLDER.mkdir(exist_ok=True)
    the_other_ways(FOLDER, the_good_way(FOLDER))
    counted = subprocess.run(["wc", "-l", *FOLDER.glob("*.txt")], capture_output=True, text=True)
    sys.stdout.write(counted.stdout)


if __name__ == "__main__":
    main()
