# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of an index that differs: what that breaks, and the ways out."""

from __future__ import annotations

from psycopg.sql import SQL

from ..core.sql import drop_index, name, rename_index
from .difference import NOTE, WARNING, Difference, Sides, difference
from .resolution import BUILDING, ONE_LINE, Subject, Way

_DROPPING = "SHARE UPDATE EXCLUSIVE: reads and writes go on"


def missing_index(
    on: Subject, index: str, definition: str, sql: str, *, by_phase: bool, unique: bool
) -> Difference:
    """definition is what comes after the name, such as (a, b); sql builds the index."""
    here = "; this phase does it, in its step Build the indexes" if by_phase else ""
    return difference(
        "missing_index",
        WARNING,
        on,
        index,
        Sides(f"index {index}", definition, "none"),
        f"the models have index {index} on {on.name} {definition}, the database has none like it",
        "duplicates can be stored, and queries that rely on it read the whole table"
        if unique
        else "queries that rely on it read the whole table",
        Way(f"build the index{here}", True, [[sql]], BUILDING),
        Way("take the index out of the models", costs=ONE_LINE),
        by_phase=by_phase,
    )


def changed_index(
    on: Subject, index: str, found: str, expected: str, sql: str, *, unique: bool
) -> Difference:
    """found and expected are definitions; sql builds the index as expected. unique: only the
    expected one is unique."""
    return difference(
        "changed_index",
        WARNING,
        on,
        index,
        Sides(f"index {index}", expected, found),
        f"the models have index {index} on {on.name} as {expected}, the database as: {found}",
        "duplicates can be stored, which the models rule out"
        if unique
        else "queries that rely on the models' index may read the whole table",
        Way(
            "drop the index and build it as in the models",
            True,
            [[drop_index(name(on.table.schema, index)), sql]],
            f"{BUILDING}; meanwhile there is neither index",
        ),
        Way("define it in the models as it is", costs=ONE_LINE),
    )


def renamed_index(on: Subject, new: str, old: str, *, by_phase: bool) -> Difference:
    here = "; this phase does it, in its step Rename the index" if by_phase else ""
    return difference(
        "renamed_index",
        NOTE,
        on,
        new,
        Sides(f"index {new}", new, old),
        f"the models have index {new} on {on.name}, the database has the same as {old}",
        "nothing breaks now; a migration that names it fails",
        Way(
            f"rename the index{here}",
            True,
            rename_index(on.table, old, new),
            "SHARE UPDATE EXCLUSIVE on the index, for the catalog change only: milliseconds",
        ),
        Way(f"call it {old} in the models", costs=ONE_LINE),
        by_phase=by_phase,
    )


def surplus_index(on: Subject, index: str, definition: str, *, by_phase: bool) -> Difference:
    """by_phase: it is one of the phase's indexes."""
    known = "; this phase wants it" if by_phase else ""
    return difference(
        "surplus_index",
        NOTE,
        on,
        index,
        Sides(f"index {index}", "none", definition),
        f"the database has index {index} on {on.name}, the models have none like it{known}: "
        f"{definition}",
        "nothing breaks; every write keeps it up",
        Way("add the index to the models", True, costs=ONE_LINE),
        Way(
            "drop the index, if pg_stat_user_indexes says that nobody reads it",
            sql=drop_index(name(on.table.schema, index)),
            costs=_DROPPING,
        ),
    )


def invalid_index(on: Subject, index: str, *, modelled: bool, by_phase: bool) -> Difference:
    """modelled: the models have an index of that name. by_phase: the phase builds it anew."""
    of = name(on.table.schema, index)
    here = "; this phase drops it and builds it anew" if by_phase else ""
    wanted = modelled or by_phase
    return difference(
        "invalid_index",
        WARNING,
        on,
        index,
        Sides(f"index {index}", "valid" if wanted else "none", "INVALID"),
        f"index {index} of {on.name} is INVALID in the database, the models "
        f"{'rely on it' if modelled else 'have none of that name'}: its build was broken off",
        "no query uses it, a unique one guarantees nothing, and every write still keeps it up",
        Way(
            f"build it anew{here}",
            wanted,
            SQL("REINDEX INDEX CONCURRENTLY {}").format(of),
            BUILDING,
        ),
        Way("drop it", not wanted, drop_index(of), _DROPPING),
        by_phase=by_phase,
    )
