# SPDX-License-Identifier: GPL-3.0-or-later
"""Notice a server that no longer answers: one that is frozen, or whose machine is gone, closes no
connection, so whoever waits for its answer would wait for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

EVERY_SECONDS, ANSWER_SECONDS = 5.0, 5
TRIES = 3  # in a row without an answer

_open: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()


def watch(conn: psycopg.Connection[Any]) -> None:
    """Let a heartbeat cut this connection off, too."""
    _open.add(conn)


def cut(conn: psycopg.Connection[Any]) -> None:
    """Cut a connection off, from another thread than the one that waits for it."""
    with (
        contextlib.suppress(psycopg.Error, OSError),
        socket.socket(fileno=os.dup(conn.fileno())) as ours,
    ):
        ours.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def heartbeat(answers: Callable[[], bool]) -> Iterator[None]:
    """Ask every EVERY_SECONDS whether the server answers. Where it does not, TRIES times in a row,
    cut all connections off: whoever waits for one of them learns that it is lost."""
    over = threading.Event()

    def beat() -> None:
        missed = 0
        while not over.wait(EVERY_SECONDS):
            missed = 0 if answers() else missed + 1
            if over.is_set():  # whose turn it is now has a heartbeat of its own
                return
            if missed >= TRIES:
                for conn in list(_open):
                    cut(conn)
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
