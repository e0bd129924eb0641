# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of progress to whoever watches a call of a module while it is at work, through a FIFO."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .errors import RunbookError
from .values import plain


@dataclass(frozen=True)
class Shown:
    """A line of progress, and its figures: rows done, rows a second of the slice, and why it was
    held, if it was."""

    line: str
    rows_done: int
    rows_per_second: float
    held: str = ""


Tell = Callable[[Shown], None]


@contextlib.contextmanager
def channel(path: str) -> Iterator[Tell]:
    """What tells a line to whoever reads from the FIFO, each as JSON in a line of its own. Without
    a path, or a reader, lines are told to nobody. Telling one raises RunbookError where the reader
    has gone away since."""
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK) if path else None
    except OSError:
        fifo = None
    if fifo is None:
        yield lambda shown: None
        return

    def tell(shown: Shown) -> None:
        try:
            os.write(fifo, f"{json.dumps(plain(shown))}\n".encode())
        except BlockingIOError:  # who reads has stopped for a while
            pass
        except BrokenPipeError:
            raise RunbookError(
                "ansible-playbook is gone, and nobody watches the backfill. Every batch that it "
                "had committed is kept. Next step: run the playbook again; it goes on where it "
                "stopped."
            ) from None

    try:
        yield tell
    finally:
        os.close(fifo)
