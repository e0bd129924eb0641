# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception whose message is meant for the person in the maintenance window, and what of
the server's own errors they are told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psycopg


AT_WORK, LOST = "at_work", "lost"
"""Codes of errors: another session works on the table; the connection is gone, or no server that
can be used answers."""


class RunbookError(Exception):
    """A run cannot go on: each obstacle names the object and the next step, and no secret. code is
    for playbooks, which must not depend on the words."""

    def __init__(self, *obstacles: str, code: str = "") -> None:
        super().__init__(*obstacles)
        self.obstacles, self.code = obstacles, code

    def __str__(self) -> str:
        if len(self.obstacles) == 1:
            return self.obstacles[0]
        numbered = (f"{n}. {obstacle}" for n, obstacle in enumerate(self.obstacles, 1))
        return "\n".join([f"There are {len(self.obstacles)} obstacles.", *numbered])


def require_none(obstacles: Iterable[str]) -> None:
    """Raise RunbookError with all obstacles, if there is one."""
    found = tuple(obstacles)
    if found:
        raise RunbookError(*found)


def unanswered(error: BaseException) -> bool:
    """Whether the connection was lost before the server had answered. Then it may have done what it
    was sent, or may still be at it."""
    return getattr(error, "sqlstate", "") is None


def reason(error: psycopg.Error) -> str:
    """The first line of what the server, or the driver, says of an error, without the value that it
    quotes where it says that a value is wrong (class 22): that may be a whole document of a row."""
    said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    return _QUOTED.sub(r"\1…\2", said) if _of_a_value(error) else said


def detail(error: psycopg.Error) -> str:
    """The server's DETAIL where it is about objects or sessions; elsewhere it may have a row."""
    known = (error.sqlstate or "")[:2] in _DETAILED
    return (error.diag.message_detail or "") if known else ""


def place(error: psycopg.Error) -> str:
    """The function in which it happened, or the tuple: the first line of the server's CONTEXT that
    is only that. Other lines may have values."""
    found = _PLACE.search(error.diag.context or "")
    return found[0] if found else ""


_DETAILED = ("0A", "2B", "40", "42", "53", "55")
_PLACE = re.compile(
    r"^(PL/pgSQL function .+ line \d+ at [\w ]+"
    r'|SQL function "[^"\n]+" (statement \d+|during \w+)'
    r'|while \w+ tuple \(\d+,\d+\) in relation "[^"\n]+")$',
    re.MULTILINE,
)
_QUOTED = re.compile("([\"'«„\u201c\u2018]).*([\"'»\u201c\u201d\u2019])", re.DOTALL)


def _of_a_value(error: psycopg.Error) -> bool:
    by_the_driver = error.sqlstate is None and "DataError" in {
        kind.__name__ for kind in type(error).__mro__
    }
    return by_the_driver or (error.sqlstate or "").startswith("22")
