# SPDX-License-Identifier: GPL-3.0-or-later
"""A person at a terminal: start a command, wait for what it prints, type, or press Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import termios
import time
from pathlib import Path
from types import TracebackType

PATIENCE_S = 120.0
QUESTION = r"Type ([0-9a-f]{8}) to approve, or no to stop"


class Terminal:
    """A command with a terminal of its own; output is everything that it has printed so far."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.output = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ["ANSIBLE_NOCOLOR"] = "1"
            os.execvp(command[0], command)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def wait_for(self, pattern: str, start: int = 0) -> int:
        """Read until the output from start on matches; where the match ends."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.compile(pattern).search(self.output, start)):
            assert self._read(deadline), f"no {pattern!r} in:\n{self.output[start:]}"
        return found.end()

    def answer(self, text: str) -> None:
        """Type a line at Ansible's prompt, once it listens: what comes earlier it throws away."""
        deadline = time.monotonic() + PATIENCE_S
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            assert time.monotonic() < deadline, f"nobody listens, after:\n{self.output}"
            time.sleep(0.05)
        time.sleep(1)  # it empties the keyboard's buffer right after it has begun to listen
        os.write(self.fd, f"{text}\r".encode())

    def approve(self, start: int = 0) -> int:
        """Wait for a question, and type what it names; where the question ends."""
        end = self.wait_for(QUESTION, start)
        self.answer(re.findall(QUESTION, self.output[start:end])[-1])
        return end

    def status(self) -> int:
        """Read to the end; the command's exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status

    def _read(self, deadline: float) -> bool:
        ready = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))[0]
        assert ready, f"nothing was printed for too long, after:\n{self.output}"
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.output += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)
