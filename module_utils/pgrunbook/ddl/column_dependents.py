# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rename or a conversion of the phase's columns would break. Only reads."""

from __future__ import annotations

from dataclasses import replace

from ..catalog import TableInfo, conversion
from ..catalog.dependents import Dependent, dependents
from ..core.connection import Connection
from ..core.errors import require_none
from ..core.printable import yaml
from ..core.spec import Spec
from . import rename


def require_acknowledged(conn: Connection, spec: Spec, info: TableInfo) -> list[Dependent]:
    """The dependents of the columns to be renamed or converted.

    Raises RunbookError with those that do not go along and are not acknowledged: they hold the name
    as text, such as a function with a string body, or are on a column that is put aside.
    """
    renamed = [
        dependent
        for old in (column.renamed_from or "" for column in rename.pending(spec, info))
        for dependent in dependents(conn, info.oid, old)
    ]
    obstacles = _not_acknowledged(
        spec,
        renamed,
        "A rename would break {}: the old column name is there as text, and PostgreSQL does not "
        "change it. (A comment, or a column of that name in another table, cannot be told from "
        "it.) Next step: prepare the new text for after the rename, then list {} in "
        "phase_acknowledged.",
    )
    converted = [
        _left_behind(dependent)
        for each in conversion.pending(spec, info)
        for dependent in dependents(conn, info.oid, each.old)
        if dependent.kind != "index"
    ]
    obstacles += _not_acknowledged(
        spec,
        converted,
        "A conversion would leave {} behind, on the column that is put aside. Next step: prepare "
        "what changes it to the new column, for right after the conversion, then list {} in "
        "phase_acknowledged.",
    )
    require_none(obstacles)
    return [*renamed, *converted]


def _not_acknowledged(spec: Spec, found: list[Dependent], refusal: str) -> list[str]:
    left = [d for d in found if not d.follows and d.object not in spec.acknowledged]
    if not left:
        return []
    named = ", ".join(f"{d.kind} {d.object}" for d in left)
    listed = ", ".join(dict.fromkeys(yaml(d.object) for d in left))
    return [refusal.format(named, listed)]


def _left_behind(dependent: Dependent) -> Dependent:
    """The dependent of a column that is put aside. It stays on that column, unless it is text."""
    if not dependent.follows:
        return dependent
    stays = "stays on the column that is put aside, which nobody fills any more"
    return replace(dependent, follows=False, note=stays)
