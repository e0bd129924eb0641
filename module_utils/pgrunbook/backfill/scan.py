# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through the table: which chunk comes next, and up to where everything is done."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any

from psycopg.sql import SQL

from ..catalog import Leaf, TableInfo
from ..core.connection import Connection, one
from ..core.spec import Spec
from ..core.sql import comma, name, table
from ..ledger import Checkpoint
from .batch_sql import key_values


@dataclass(frozen=True)
class PageChunk:
    """Pages of a partition, the last one excluded, which one worker takes through every pass before
    it asks for more. position counts the pages of all partitions before it; passes is how many
    there are, next_pass the first that is not done."""

    leaf: Leaf
    first: int
    last: int
    position: int
    passes: int = 1
    next_pass: int = 0

    def end(self, at: int, size: int) -> int:
        """Before which page a batch ends that begins there and has so many pages."""
        return min(at + size, self.last)

    def max_rows(self, size: int) -> None:
        """How many rows a batch of that size has: nobody knows."""

    def place(self, at: int, end: int, number: int) -> dict[str, Any]:
        """The parameters of a batch's statement that say where it works in that pass."""
        return {"first": at, "last": end, "passes": self.passes, "pass": number}


@dataclass(frozen=True)
class KeyChunk:
    """So many rows in the order of the key, from one key to another, both included, in one pass.
    position counts the chunks before it."""

    leaf: Leaf
    last: int
    position: int
    first_key: list[str]
    last_key: list[str]
    first: int = 0
    passes: int = 1
    next_pass: int = 0

    def end(self, at: int, size: int) -> int:
        """Before which row a batch ends: each may fill all that is left of the chunk."""
        return self.last

    def max_rows(self, size: int) -> int:
        """How many rows a batch of that size has."""
        return size

    def place(self, at: int, end: int, number: int) -> dict[str, Any]:
        """The parameters of a batch's statement that say where it works."""
        keys = {"first_key": self.first_key, "last_key": self.last_key}
        return {"first": None, "last": None, **keys}


Chunk = PageChunk | KeyChunk


class PageRoute:
    """Hands out the pages from start to end, both counted over all leaves. Threads share it.

    pages is how many there were when the pass began: rows that move add others meanwhile.
    unfinished has the chunks that an earlier slice left, as checkpoint() gave them.
    """

    def __init__(
        self, leaves: tuple[Leaf, ...], start: int, end: int, unfinished: list[list[int]]
    ) -> None:
        self._leaves, self._next, self._end, self.pages = leaves, start, end, end
        self._unfinished = [s for entry in unfinished if (s := self._chunk(*entry))]
        self._under_way: dict[int, PageChunk] = {}
        self._lock = threading.Lock()

    def next(self, conn: Connection, size: int, passes: int) -> PageChunk | None:
        """A chunk that was left, or up to size pages of one leaf for so many passes, or None at
        the end."""
        with self._lock:
            if self._unfinished:
                chunk: PageChunk | None = self._unfinished.pop(0)
            else:
                chunk = self._chunk(self._next, min(size, self._end - self._next), passes, 0)
                self._next += chunk.last - chunk.first if chunk else 0
            if chunk:
                self._under_way[chunk.position] = chunk
            return chunk

    def passed(self, chunk: Chunk, number: int) -> None:
        """Note that a pass over the chunk is done."""
        with self._lock:
            begun = self._under_way[chunk.position]
            self._under_way[chunk.position] = replace(begun, next_pass=number + 1)
            if number + 1 == chunk.passes:
                del self._under_way[chunk.position]

    def exhausted(self) -> bool:
        """Whether every chunk was handed out and finished."""
        with self._lock:
            rest = self._chunk(self._next, self._end - self._next, 1, 0)
            return rest is None and not self._under_way and not self._unfinished

    def checkpoint(self) -> Checkpoint:
        """Where to go on after an interruption."""
        with self._lock:
            left = [*self._under_way.values(), *self._unfinished]
            unfinished = [[s.position, s.last - s.first, s.passes, s.next_pass] for s in left]
            return Checkpoint(next_page=self._next, unfinished=unfinished)

    def _chunk(self, position: int, pages: int, passes: int, next_pass: int) -> PageChunk | None:
        """The chunk at a position, cut off at the end of its leaf; None behind the last leaf."""
        before = 0
        for leaf in self._leaves:
            first = position - before
            if pages > 0 and first < leaf.pages:
                last = min(first + pages, leaf.pages)
                return PageChunk(leaf, first, last, position, passes, next_pass)
            before += leaf.pages
        return None


class KeyRoute:
    """Hands out the rows in the order of the key, after a start. Threads share it."""

    def __init__(self, spec: Spec, info: TableInfo, start: list[str] | None) -> None:
        self._spec, self._info = spec, info
        self._after, self._ended, self._position = start, False, 0
        self._under_way: dict[int, list[str] | None] = {}
        self._lock = threading.Lock()

    def next(self, conn: Connection, size: int, passes: int) -> KeyChunk | None:
        """A chunk of up to size rows, or None at the end. There is only one pass."""
        with self._lock:
            if self._ended:
                return None
            first, last = self._bounds(conn, size)
            if first is None:
                self._ended = True
                return None
            chunk = KeyChunk(self._info.leaves[0], size, self._position, first, last)
            self._under_way[self._position] = self._after
            self._after, self._position = last, self._position + 1
            return chunk

    def passed(self, chunk: Chunk, number: int) -> None:
        """Note that the chunk is done."""
        with self._lock:
            del self._under_way[chunk.position]

    def exhausted(self) -> bool:
        """Whether every chunk was handed out and finished."""
        with self._lock:
            return self._ended and not self._under_way

    def checkpoint(self) -> Checkpoint:
        """Where to go on after an interruption: everything up to that key is done."""
        with self._lock:
            key = self._under_way[min(self._under_way)] if self._under_way else self._after
            return Checkpoint(next_page=0, next_key=key, unfinished=[])

    def _bounds(self, conn: Connection, rows: int) -> tuple[Any, Any]:
        """The first and the last key of the next rows, as texts; None where there is none."""
        ours = comma(name(k) for k in self._spec.key)
        after = SQL("WHERE ROW({}) > ROW({})").format(
            ours, key_values(self._spec, self._info, "after")
        )
        query = SQL(
            "WITH w AS MATERIALIZED"
            " (SELECT {ours} FROM {table} {after} ORDER BY {ours} LIMIT %(n)s)"
            " SELECT (SELECT ARRAY[{texts}] FROM w ORDER BY {ours} LIMIT 1) AS first,"
            " (SELECT ARRAY[{texts}] FROM w ORDER BY {downwards} LIMIT 1) AS last"
        ).format(
            ours=ours,
            table=table(self._spec.table),
            after=after if self._after is not None else SQL(""),
            texts=comma(SQL("{}::text").format(name(k)) for k in self._spec.key),
            downwards=comma(SQL("{} DESC").format(name(k)) for k in self._spec.key),
        )
        row = one(conn, query, {"after": self._after, "n": rows})
        return row["first"], row["last"]


Route = PageRoute | KeyRoute
