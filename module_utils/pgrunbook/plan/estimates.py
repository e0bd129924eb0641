# SPDX-License-Identifier: GPL-3.0-or-later
"""How long each step of a run would take. Only reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec
from ..ddl.build_time import index_seconds
from ..ddl.index_plan import Action


@dataclass(frozen=True)
class Estimates:
    """About how many seconds each step takes, by the step's id, not counting waits for locks. That
    of the backfill is None where nothing was measured. A change of the catalog takes no time."""

    backfill: float | None
    index_build: float
    index_trial: float
    rename: float = 0.0
    convert: float = 0.0
    index_rename: float = 0.0
    index_defer: float = 0.0
    index_left: float = 0.0

    def of(self, step: str) -> float | None:
        """The seconds of a step."""
        seconds: float | None = getattr(self, step)
        return seconds


def build_seconds(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    names: Mapping[str, str],
    actions: Iterable[Action],
) -> float:
    """About how many seconds those of the actions take that build an index, one after the other,
    not counting waits for locks."""
    seconds = 0.0
    for action in actions:
        if action.kind != "build":
            continue
        by, include = (
            [names.get(c, c) for c in part] for part in (action.index.columns, action.index.include)
        )
        whole = index_seconds(conn, spec.table, info.pages, by, include)
        pages = sum(part.pages for part in action.parts) if action.parts else info.pages
        seconds += whole * pages / max(info.pages, 1)
    return round(seconds, 1)
