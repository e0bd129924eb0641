# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the way of a run, collected, so that one dry run tells all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .connection import Connection
from .errors import RunbookError, require_none

P = ParamSpec("P")
T = TypeVar("T")


class Obstacles:
    """The obstacles that the checks of a plan found so far, in their order."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._found: list[str] = []

    def checked(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What a check returns; where it raises RunbookError that is kept, and None returned.

        The check runs in a savepoint, so that the next one can read after a statement that failed.
        """
        try:
            with self._conn.transaction():
                return check(*args, **kwargs)
        except RunbookError as error:
            self._found += error.obstacles
            return None

    def require_none(self) -> None:
        """Raise RunbookError with all that was found, if anything was."""
        require_none(self._found)
