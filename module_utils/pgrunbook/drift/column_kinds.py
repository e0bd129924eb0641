# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a column that differs, its type apart: what that breaks, and the ways out."""

from __future__ import annotations

from psycopg.sql import SQL, Composable

from ..core.sql import cut, name, rename_column, table, text
from .difference import CRITICAL, NOTE, WARNING, Difference, Sides, difference
from .resolution import (
    AS_IT_IS,
    BRIEFLY,
    CODE,
    NO_RELEASE,
    ONE_LINE,
    VALIDATED,
    Subject,
    Transactions,
    Way,
)

AFTER_RENAME = ", after the rename"
SET_ASIDE = Way(
    "put the column aside and fill a new one in batches; this phase does it, see the plan",
    True,
    costs=f"{BRIEFLY}, without a rewrite; the old column stays until somebody drops it",
    gains=NO_RELEASE,
)


def missing_column(on: Subject, column: str, type_: str, spelled: str) -> Difference:
    """spelled is the type as SQL takes it; it is empty where the server has no such type."""
    return difference(
        "missing_column",
        CRITICAL,
        on,
        f"{on.name}.{column}",
        Sides(f"column {on.name}.{column}", type_, "none"),
        f"the models have column {on.name}.{column} ({type_}), the database has no such column and "
        "none of a similar name",
        _not_there(column),
        Way(
            "add the column to the database"
            + ("" if spelled else ", after its type, which the database does not have"),
            True,
            _add_column(on, column, spelled),
            f"{BRIEFLY}, since it has no default; it is empty at first",
            NO_RELEASE,
        ),
        Way("take the column out of the models", costs=CODE, gains=AS_IT_IS),
    )


def surplus_column(on: Subject, column: str, type_: str, *, required: bool) -> Difference:
    """required: every INSERT has to name the column, because it is NOT NULL and has no default."""
    told = ", NOT NULL and without a default" if required else ""
    return difference(
        "surplus_column",
        WARNING if required else NOTE,
        on,
        f"{on.name}.{column}",
        Sides(f"column {on.name}.{column}", "none", f"{type_}{told}"),
        f"the database has column {on.name}.{column} ({type_}{told}), the models have none",
        "an INSERT from the models does not name it and fails, unless a trigger fills it"
        if required
        else "nothing breaks: the application neither reads nor writes it",
        Way("add the column to the models, or leave it", True, costs=ONE_LINE),
        Way(
            "drop the column",
            sql=SQL("ALTER TABLE {} DROP COLUMN {}").format(table(on.table), name(column)),
            costs=f"{BRIEFLY}; its values are lost, and whatever still reads it breaks",
        ),
    )


def renamed_column(
    on: Subject,
    new: tuple[str, str],
    old: tuple[str, str],
    *,
    spelled: str,
    by_phase: bool,
    converted: bool = False,
) -> Difference:
    """new and old are each a name and a type; spelled is the new type as SQL takes it. by_phase:
    the phase itself renames old to new. converted: the type is wrong too, so the phase puts old
    aside instead."""
    known = "this phase renames it" if by_phase else "probably the same under another name"
    return difference(
        "renamed_column",
        CRITICAL,
        on,
        f"{on.name}.{new[0]}",
        Sides(f"column {on.name}.{new[0]}", f"{new[0]} ({new[1]})", f"{old[0]} ({old[1]})"),
        f"the models have column {on.name}.{new[0]} ({new[1]}), the database has {old[0]} "
        f"({old[1]}) in its place: {known}",
        _not_there(new[0]),
        *([SET_ASIDE] if converted else []),
        _rename(on, new[0], old[0], by_phase=by_phase, converted=converted),
        Way(f"call it {old[0]} in the models", costs=CODE, gains=AS_IT_IS),
        Way(
            "keep both columns",
            sql=_add_column(on, new[0], spelled),
            costs="two columns for one thing, to be kept alike for ever, and twice the space",
            gains="nothing that uses either name breaks",
        ),
        by_phase=by_phase,
    )


def _rename(on: Subject, new: str, old: str, *, by_phase: bool, converted: bool) -> Way:
    alone = by_phase and not converted
    here = "; this phase does it, in its step Rename the column" if alone else ""
    return Way(
        f"rename the column in the database{here}",
        not converted,
        rename_column(on.table, old, new),
        f"{BRIEFLY}; what depends on the column is in the plan",
        f"{NO_RELEASE}; one name for one thing",
    )


def forbidden_null(on: Subject, column: str, *, renamed: bool) -> Difference:
    """A column that is NOT NULL in the database only. renamed: it has to be renamed first."""
    drop = SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table(on.table), name(column))
    after = AFTER_RENAME if renamed else ""
    return difference(
        "nullability",
        WARNING,
        on,
        f"{on.name}.{column}",
        Sides(f"column {on.name}.{column}", "allows NULL", "NOT NULL"),
        f"column {on.name}.{column} is NOT NULL in the database, the models allow NULL in it",
        "writes that leave it out fail with: null value violates not-null constraint",
        Way(f"allow NULL in the database{after}", False, drop, BRIEFLY),
        Way("say so in the models", True, costs=ONE_LINE),
    )


def allowed_null(on: Subject, column: str, *, renamed: bool) -> Difference:
    """A column that is NOT NULL in the models only. renamed: it has to be renamed first."""
    after = AFTER_RENAME if renamed else ""
    return difference(
        "nullability",
        WARNING,
        on,
        f"{on.name}.{column}",
        Sides(f"column {on.name}.{column}", "NOT NULL", "allows NULL"),
        f"column {on.name}.{column} is NOT NULL in the models, the database allows NULL in it",
        "rows without a value can be stored, and the code does not expect them",
        Way(f"forbid NULL in the database{after}", True, _set_not_null(on, column), VALIDATED),
        Way("say so in the models", costs=ONE_LINE),
    )


def _set_not_null(on: Subject, column: str) -> Transactions:
    """Set NOT NULL by way of a constraint, so that nobody waits while the rows are read."""
    add = SQL("ALTER TABLE {t} ADD CONSTRAINT {k} CHECK ({c} IS NOT NULL) NOT VALID")
    validate = SQL("ALTER TABLE {t} VALIDATE CONSTRAINT {k}")
    forbid = SQL("ALTER TABLE {t} ALTER COLUMN {c} SET NOT NULL")
    drop = SQL("ALTER TABLE {t} DROP CONSTRAINT {k}")
    named = {"t": table(on.table), "c": name(column), "k": name(cut(column, "_not_null"))}
    return [
        [statement.format(**named) for statement in transaction]
        for transaction in ([add], [validate], [forbid, drop])
    ]


def _add_column(on: Subject, column: str, spelled: str) -> Composable | tuple[()]:
    if not spelled:
        return ()
    add = SQL("ALTER TABLE {} ADD COLUMN {} {}")
    return add.format(table(on.table), name(column), text(spelled))


def _not_there(column: str) -> str:
    return (
        "queries and writes that name it, the application's and the backfill's, fail with: column "
        f'"{column}" does not exist'
    )
