# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy between program and server that counts protocol messages and cuts connections.

It understands the framing of PostgreSQL's messages and nothing of what they say, apart from the
text of statements. One thread forwards the messages one by one, so those of all connections are
counted in one order.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PORT = 5432
PATIENCE_S = 30.0

TO_SERVER = {"Q": "Query", "E": "Execute", "S": "Sync", "X": "Terminate"}
"""The messages of the program that are counted. Parse, Bind and Describe go to the server together
with the Execute that they prepare, and nothing depends on them before."""
STARTUP, GREETING, REPLY = "StartupMessage", "greeting", "reply"
"""What the server says to a startup packet, or to a Query or Sync, counts once, as its last message
(ReadyForQuery): until that has come, the program has no answer."""


@dataclass(frozen=True)
class Message:
    """A message that was forwarded: its number, that of its connection, of how many that are open,
    and the statement that it belongs to, which is the latest one of the connection."""

    number: int
    connection: int
    open: int
    to_server: bool
    kind: str
    statement: str

    def __str__(self) -> str:
        way = "to the server" if self.to_server else "to the program"
        statement = " ".join(self.statement.split()) or "no statement yet"
        return f"{self.kind} {way}, connection {self.connection} of {self.open}: {statement}"


@dataclass(frozen=True)
class Cut:
    """Where to cut: behind the message of this number; all connections that are open then, or the
    message's own."""

    number: int
    everything: bool


@dataclass
class _Link:
    """A connection: both ends, what has arrived of a message, and how far it is."""

    number: int
    ends: dict[bool, socket.socket]  # by whether the end is the server's
    pending: dict[bool, bytearray] = field(
        default_factory=lambda: {True: bytearray(), False: bytearray()}
    )
    started: bool = False
    greeted: bool = False
    statement: str = ""


class Proxy:
    """The proxy in front of a server's socket. login is what differs from the server's own."""

    def __init__(self, server: Path, folder: Path) -> None:
        self.login: dict[str, Any] = {"host": str(folder), "port": PORT}
        self.counted: list[Message] = []
        self._server = str(server)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / f".s.PGSQL.{PORT}"))
        self._listener.listen(16)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._links: list[_Link] = []
        self._accepted = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._cut: Cut | None = None
        self.hit: Message | None = None
        """The message behind which was cut."""
        self.at_statement: tuple[str, Callable[[], object]] | None = None
        """What to do, once, when a statement with this text goes to the server."""

    @contextmanager
    def counting(self, cut: Cut | None = None) -> Iterator[None]:
        """Count from 1, and cut once. Ends when the connections that were opened are closed."""
        self.counted, self.hit, self._cut, self._accepted = [], None, cut, 0
        yield
        deadline = time.monotonic() + PATIENCE_S
        while self._links:
            assert time.monotonic() < deadline, "a connection is left open"
            time.sleep(0.0005)
        self._cut = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        for link in list(self._links):
            self._close(link)
        self._listener.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(timeout=0.1):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data[0] in self._links:  # not cut by an earlier one of the same round
                    self._read(*key.data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(self._server)
        self._accepted += 1
        link = _Link(self._accepted, {True: server, False: client})
        self._links.append(link)
        self._selector.register(client, selectors.EVENT_READ, (link, True))
        self._selector.register(server, selectors.EVENT_READ, (link, False))

    def _read(self, link: _Link, to_server: bool) -> None:
        try:
            data = link.ends[not to_server].recv(1 << 16)
        except OSError:
            data = b""
        link.pending[to_server] += data
        for kind, body in _messages(link, to_server):
            if not self._forward(link, to_server, kind, body):
                return
        if not data:
            self._close(link)

    def _forward(self, link: _Link, to_server: bool, kind: str, body: bytes) -> bool:
        """Forward a message. Whether its connection still stands."""
        text = _statement(kind, body) if to_server else None
        if text is not None:
            link.statement = text
            if self.at_statement and self.at_statement[0] in text:
                self.at_statement[1]()
                self.at_statement = None
        try:
            link.ends[to_server].sendall(body)
        except OSError:
            self._close(link)
            return False
        name = _name(link, to_server, kind)
        if not name:
            return True
        message = Message(
            len(self.counted) + 1, link.number, len(self._links), to_server, name, link.statement
        )
        self.counted.append(message)
        if self._cut is None or message.number != self._cut.number:
            return True
        self.hit = message
        for each in list(self._links) if self._cut.everything else [link]:
            self._close(each)
        return False

    def _close(self, link: _Link) -> None:
        self._links.remove(link)
        for end in link.ends.values():
            self._selector.unregister(end)
            end.close()


def _messages(link: _Link, to_server: bool) -> Iterator[tuple[str, bytes]]:
    """The messages that have arrived whole, with their types. The first one of a client has no
    type."""
    pending = link.pending[to_server]
    while True:
        typed = link.started or not to_server
        header = 5 if typed else 4
        if len(pending) < header:
            return
        end = int.from_bytes(pending[header - 4 : header], "big") + (header - 4)
        if len(pending) < end:
            return
        body = bytes(pending[:end])
        del pending[:end]
        if to_server:
            link.started = True
        yield chr(body[0]) if typed else STARTUP, body


def _statement(kind: str, body: bytes) -> str | None:
    """The text of a message that has one: Query, or Parse, which has the name of the prepared
    statement before it."""
    if kind == "Q":
        return body[5:-1].decode(errors="replace")
    if kind == "P":
        return body[5:].split(b"\0")[1].decode(errors="replace")
    return None


def _name(link: _Link, to_server: bool, kind: str) -> str:
    """What a message is counted as; empty where it is not."""
    if to_server:
        return STARTUP if kind == STARTUP else TO_SERVER.get(kind, "")
    if kind != "Z":
        return ""
    name = REPLY if link.greeted else GREETING
    link.greeted = True
    return name
