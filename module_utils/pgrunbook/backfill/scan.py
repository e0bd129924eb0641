# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through the table: which stretch comes next, and up to where everything is done."""

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
from .batch import key_values


@dataclass(frozen=True)
class Stretch:
    """What one worker takes through every pass before it asks for more.

    first and last are pages of the leaf, the last one excluded, or rows by key where first_key and
    last_key, both included, are set. position counts the pages of all leaves before it. passes is
    how many there are, next_pass the first that is not done.
    """

    leaf: Leaf
    first: int
    last: int
    position: int
    passes: int = 1
    next_pass: int = 0
    first_key: list[str] | None = None
    last_key: list[str] | None = None


class PageRoute:
    """Hands out the pages from start to end, both counted over all leaves. Threads share it.

    unfinished has the stretches that an earlier slice left, as checkpoint() gave them.
    """

    def __init__(
        self, leaves: tuple[Leaf, ...], start: int, end: int, unfinished: list[list[int]]
    ) -> None:
        self._leaves, self._next, self._end = leaves, start, end
        self._unfinished = [s for entry in unfinished if (s := self._stretch(*entry))]
        self._under_way: dict[int, Stretch] = {}
        self._lock = threading.Lock()

    def next(self, conn: Connection, size: int, passes: int) -> Stretch | None:
        """A stretch that was left, or up to size pages of one leaf for so many passes, or None at
        the end."""
        with self._lock:
            if self._unfinished:
                stretch: Stretch | None = self._unfinished.pop(0)
            else:
                stretch = self._stretch(self._next, min(size, self._end - self._next), passes, 0)
                self._next += stretch.last - stretch.first if stretch else 0
            if stretch:
                self._under_way[stretch.position] = stretch
            return stretch

    def passed(self, stretch: Stretch, number: int) -> None:
        """Note that a pass over the stretch is done."""
        with self._lock:
            self._under_way[stretch.position] = replace(stretch, next_pass=number + 1)
            if number + 1 == stretch.passes:
                del self._under_way[stretch.position]

    def exhausted(self) -> bool:
        """Whether every stretch was handed out and finished."""
        with self._lock:
            rest = self._stretch(self._next, self._end - self._next, 1, 0)
            return rest is None and not self._under_way and not self._unfinished

    def checkpoint(self) -> Checkpoint:
        """Where to go on after an interruption."""
        with self._lock:
            left = [*self._under_way.values(), *self._unfinished]
            unfinished = [[s.position, s.last - s.first, s.passes, s.next_pass] for s in left]
            return Checkpoint(next_page=self._next, unfinished=unfinished)

    def _stretch(self, position: int, pages: int, passes: int, next_pass: int) -> Stretch | None:
        """The stretch at a position, cut off at the end of its leaf; None behind the last leaf."""
        before = 0
        for leaf in self._leaves:
            first = position - before
            if pages > 0 and first < leaf.pages:
                last = min(first + pages, leaf.pages)
                return Stretch(leaf, first, last, position, passes, next_pass)
            before += leaf.pages
        return None


class KeyRoute:
    """Hands out the rows in the order of the key, after a start. Threads share it."""

    def __init__(self, spec: Spec, info: TableInfo, start: list[str] | None) -> None:
        self._spec, self._info = spec, info
        self._after, self._ended, self._position = start, False, 0
        self._under_way: dict[int, list[str] | None] = {}
        self._lock = threading.Lock()

    def next(self, conn: Connection, size: int, passes: int) -> Stretch | None:
        """A stretch of up to size rows, or None at the end. There is only one pass."""
        with self._lock:
            if self._ended:
                return None
            found = self._bounds(conn, size)
            if found["first"] is None:
                self._ended = True
                return None
            stretch = Stretch(
                self._info.leaves[0],
                0,
                size,
                self._position,
                first_key=found["first"],
                last_key=found["last"],
            )
            self._under_way[self._position] = self._after
            self._after, self._position = found["last"], self._position + 1
            return stretch

    def passed(self, stretch: Stretch, number: int) -> None:
        """Note that the stretch is done."""
        with self._lock:
            del self._under_way[stretch.position]

    def exhausted(self) -> bool:
        """Whether every stretch was handed out and finished."""
        with self._lock:
            return self._ended and not self._under_way

    def checkpoint(self) -> Checkpoint:
        """Where to go on after an interruption: everything up to that key is done."""
        with self._lock:
            key = self._under_way[min(self._under_way)] if self._under_way else self._after
            return Checkpoint(next_page=0, next_key=key, unfinished=[])

    def _bounds(self, conn: Connection, rows: int) -> dict[str, Any]:
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
        return one(conn, query, {"after": self._after, "n": rows})
