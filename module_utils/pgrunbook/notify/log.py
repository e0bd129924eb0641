# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of events on the controller: runbook_log."""

from __future__ import annotations

import os

from .happened import Happened

MODE = 0o640  # less where the umask lets less


def append(path: str, event: Happened) -> str:
    """Append an event as a line, in one write: hosts do so at the same time. A warning where it
    could not be written; empty where it was."""
    line = f"{event.line()}\n".encode()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, MODE)
        try:
            written = os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        return _warning(path, error.strerror or type(error).__name__)
    return _warning(path, "the line is cut") if written < len(line) else ""


def _warning(path: str, why: str) -> str:
    return (
        f"The log cannot be written to {path}: {why}. The run goes on. Next step: set its rights, "
        "or runbook_log to another path, or to nothing."
    )
