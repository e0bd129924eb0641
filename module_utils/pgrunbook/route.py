# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through the table: which stretch comes next, and up to where everything is done."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL

from .batch import key_values
from .catalog import Leaf, TableInfo
from .connection import Connection, one
from .spec import Spec
from .sql import comma, name, table


@dataclass(frozen=True)
class Stretch:
    """What one worker takes through every pass before it asks for more.

    first and last are pages of the leaf, the last one excluded, or rows by key where first_key and
    last_key, both included, are set. position counts the pages of all leaves before it.
    """

    leaf: Leaf
    first: int
    last: int
    position: int
    first_key: list[str] | None = None
    last_key: list[str] | None = None


class PageRoute:
    """Hands out the pages from start to end, both counted over all leaves. Threads share it."""

    def __init__(self, leaves: tuple[Leaf, ...], start: int, end: int) -> None:
        self._leaves, self._next, self._end = leaves, start, end
        self._under_way: set[int] = set()
        self._lock = threading.Lock()

    def next(self, conn: Connection, size: int) -> Stretch | None:
        """A stretch of up to size pages of one leaf, or None at the end."""
        with self._lock:
            leaf, first = self._locate()
            if leaf is None:
                return None
            last = min(first + size, leaf.pages, first + self._end - self._next)
            stretch = Stretch(leaf, first, last, self._next)
            self._under_way.add(stretch.position)
            self._next += last - first
            return stretch

    def finished(self, stretch: Stretch) -> None:
        """Note that every pass over the stretch is done."""
        with self._lock:
            self._under_way.remove(stretch.position)

    def exhausted(self) -> bool:
        """Whether every stretch was handed out and finished."""
        with self._lock:
            return self._locate()[0] is None and not self._under_way

    def cursor(self) -> dict[str, Any]:
        """Where to go on after an interruption: everything before it is done."""
        with self._lock:
            return {"next_page": min(self._under_way, default=self._next), "next_key": None}

    def _locate(self) -> tuple[Leaf | None, int]:
        before = 0
        for leaf in self._leaves:
            if self._next < min(before + leaf.pages, self._end):
                return leaf, self._next - before
            before += leaf.pages
        return None, 0


class KeyRoute:
    """Hands out the rows in the order of the key, after a start. Threads share it."""

    def __init__(self, spec: Spec, info: TableInfo, start: list[str] | None) -> None:
        self._spec, self._info = spec, info
        self._after, self._ended, self._position = start, False, 0
        self._under_way: dict[int, list[str] | None] = {}
        self._lock = threading.Lock()

    def next(self, conn: Connection, size: int) -> Stretch | None:
        """A stretch of up to size rows, or None at the end."""
        with self._lock:
            if self._ended:
                return None
            found = self._bounds(conn, size)
            if found["first"] is None:
                self._ended = True
                return None
            stretch = Stretch(
                self._info.leaves[0], 0, size, self._position, found["first"], found["last"]
            )
            self._under_way[self._position] = self._after
            self._after, self._position = found["last"], self._position + 1
            return stretch

    def finished(self, stretch: Stretch) -> None:
        """Note that the stretch is done."""
        with self._lock:
            del self._under_way[stretch.position]

    def exhausted(self) -> bool:
        """Whether every stretch was handed out and finished."""
        with self._lock:
            return self._ended and not self._under_way

    def cursor(self) -> dict[str, Any]:
        """Where to go on after an interruption: everything up to that key is done."""
        with self._lock:
            key = self._under_way[min(self._under_way)] if self._under_way else self._after
            return {"next_page": 0, "next_key": key}

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
