# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold for a run to be planned. Everything that would make it fail later is told now,
all at once. Only reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .. import catalog
from ..backfill import constraints, counting, eligibility, expressions, probe_query
from ..backfill.equality import Rules, rules
from ..catalog import TableInfo, conversion, types
from ..catalog.dependents import Dependent
from ..core.connection import Connection
from ..core.errors import require_none
from ..core.obstacles import Obstacles
from ..core.spec import Column, Spec
from ..ddl import column_dependents, convert, index_checks
from ..gates import query_gates
from . import rehearsal


@dataclass(frozen=True)
class Sound:
    """What was found and does not stop the run, for the plan to show: triggers and volatile
    functions by name, the rows that the server would refuse, and how values are compared."""

    conversions: list[convert.Moving]
    dependents: list[Dependent]
    triggers: list[str]
    volatile: list[str]
    foreseen: constraints.Foreseen
    compared_by: Rules


def require_sound(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str], *, check: bool
) -> Sound:
    """What the plan shows. Raises RunbookError with everything that would make the run fail
    later; names has the columns' present names, check is whether this is for a dry run."""
    obstacles = Obstacles(conn)
    obstacles.checked(index_checks.require_buildable, conn, spec, info)
    called = obstacles.checked(expressions.require_sound_expressions, conn, spec, info)
    asked = obstacles.checked(query_gates.require_sound_queries, conn, spec, info)
    probed = obstacles.checked(probe_query.require_sound, conn, spec, info)
    converted = None
    foreseen = constraints.Foreseen()
    by: Rules = {}
    if called is not None:  # else these would call a function that must not run
        by = rules(conn, spec, info)
        obstacles.checked(eligibility.require_unique_source, conn, spec)
        obstacles.checked(rehearsal.require_run, conn, spec, info, by)
        fates = counting.fates(conn, spec, info, by)
        foreseen = constraints.foresee(conn, spec, info, check=check)
        converted = obstacles.checked(convert.require_safe, conn, spec, info, fates)
        obstacles.checked(constraints.require_fillable, spec, foreseen)
    dependents = obstacles.checked(column_dependents.require_acknowledged, conn, spec, info)
    triggers = obstacles.checked(_require_triggers, conn, spec, info, names)
    obstacles.require_none()
    volatile = sorted({*(called or []), *(asked or []), *(probed or [])})
    return Sound(
        converted or [],
        dependents or [],
        triggers or [],
        volatile,
        foreseen,
        by,
    )


def require_columns(
    conn: Connection, spec: Spec, info: TableInfo, source: TableInfo
) -> dict[str, str]:
    """The columns' present names. Raises RunbookError where one is missing, or cannot be filled as
    planned."""
    obstacles = Obstacles(conn)
    needed = [*spec.key, *spec.source_key]
    obstacles.checked(catalog.require_columns, spec.table, info, needed)
    obstacles.checked(catalog.require_columns, spec.source, source, spec.source_key.values())
    names = obstacles.checked(catalog.present_names, spec, info) or {}
    obstacles.require_none()
    obstacles.checked(eligibility.require_joinable, conn, spec, info, source)
    obstacles.checked(require_none, _not_fillable(conn, spec, info, names))
    obstacles.require_none()
    for column in spec.columns:
        obstacles.checked(_require_type, conn, spec, info, names, column)
    obstacles.require_none()
    return names


def _not_fillable(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str]
) -> Iterator[str]:
    """Why the table's columns cannot be filled in batches and given back."""
    if catalog.has_children(conn, info):
        yield (
            f"Other tables inherit from {spec.table}, and a batch could not tell their rows from "
            "its own. Next step: make it a partitioned table, or fill each table as a phase."
        )
    moving = catalog.partition_keys(conn, info) & set(names.values())
    if moving:
        yield (
            f"{spec.table} is partitioned by {', '.join(sorted(moving))}, and filling that would "
            "move rows. Next step: take the column out of phase_columns."
        )
    for column in spec.columns:
        if info.columns[names[column.name]].generated:
            yield (
                f"Column {column.name!r} of {spec.table} is generated and cannot be filled. "
                "Next step: take it out of phase_columns."
            )
    if spec.key and not any(
        i.unique and i.valid and i.columns == spec.key and i.plain for i in info.indexes.values()
    ):
        yield (
            f"{spec.table} has no unique index on ({', '.join(spec.key)}), so the journal could "
            "not tell its rows apart. Next step: set phase_key to the primary key's columns."
        )
    for column_name in spec.key:
        if not info.columns[column_name].not_null:
            yield (
                f"Key column {column_name!r} of {spec.table} may be NULL, and rows without a key "
                "could not be given back. Next step: set phase_key to the primary key's columns."
            )


def _require_type(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str], column: Column
) -> None:
    if any(each.column == column for each in conversion.pending(spec, info)):
        catalog.require_known_type(conn, column)
    else:
        present = names[column.name]
        catalog.require_type(conn, spec.table, present, info.columns[present], column.type)
    types.require_nullable(conn, column)


def _require_triggers(
    conn: Connection, spec: Spec, info: TableInfo, names: dict[str, str]
) -> list[str]:
    """The triggers that the backfill would fire. Raises RunbookError with those of them that are
    not acknowledged."""
    found = catalog.update_triggers(conn, info, names.values())
    require_none(
        f"Trigger {trigger!r} of {spec.table} would fire for every row that is filled, and "
        "a rollback does not take back what it does. Next step: find out what it does; if "
        "that is right for a backfill, list its name in phase_acknowledged."
        for trigger in found
        if trigger not in spec.acknowledged
    )
    return found
