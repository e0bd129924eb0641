# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a column of another type: what that breaks, and the ways out."""

from __future__ import annotations

import re

from psycopg.sql import SQL, Composable

from ..core.sql import comma, name, table, text
from .column_kinds import AFTER_RENAME, SET_ASIDE
from .difference import CRITICAL, NOTE, WARNING, Difference, Sides, difference
from .resolution import AS_IT_IS, BRIEFLY, CODE, NO_RELEASE, Subject, Way
from .type_change import TypeChange
from .types import converted, fits

_SEVERITY = {"all": NOTE, "wider": WARNING, "alike": WARNING}
_IMPACT = {
    "all": "nothing breaks: both hold the same values",
    "wider": "nothing fails; values that the models do not allow can be stored",
    "narrower": "writes of longer or larger values fail, such as with: value too long",
    "alike": "reads and writes through SQLAlchemy work with either; json keeps duplicate keys, "
    "their order and white space, and has neither =, DISTINCT and GROUP BY nor @>, ? and their "
    "GIN indexes, which jsonb has",
}
_ANY_OTHER = "values, comparisons and writes that suit one type fail with the other"
_REWRITE = (
    "ACCESS EXCLUSIVE while every row and index is written anew, and the space of both; on a large "
    "table, fill a new column in batches and swap the two instead"
)


def other_type(
    on: Subject, column: str, change: TypeChange, *, renamed: bool = False, by_phase: bool = False
) -> Difference:
    """renamed: the column has to be renamed first. by_phase: the phase itself converts it."""
    found, expected = change.found, change.expected
    how = fits(found, expected)
    only_a_limit = how == "narrower" and found.startswith("character varying")
    into_models = how in ("all", "wider", "alike") and not by_phase
    told = f"{AFTER_RENAME if renamed else ''}{_first(change)}"
    return difference(
        "type",
        _SEVERITY.get(how, CRITICAL),
        on,
        f"{on.name}.{column}",
        Sides(f"column {on.name}.{column}", expected, found),
        f"the models have column {on.name}.{column} as {expected}, the database as {found}"
        + (": this phase converts it" if by_phase else ""),
        _IMPACT.get(how, _ANY_OTHER),
        *([SET_ASIDE] if by_phase else []),
        Way(
            f"convert the column in a migration of its own{told}",
            not into_models and not by_phase,
            _convert(on, column, change, how),
            f"{BRIEFLY}, since only the limit grows" if only_a_limit else _REWRITE,
            NO_RELEASE,
        ),
        Way(f"say {found} in the models", into_models, costs=CODE, gains=AS_IT_IS),
        by_phase=by_phase,
    )


def _first(change: TypeChange) -> str:
    """What to know or do before the column is converted; empty where there is nothing."""
    if change.blocked:
        return (
            f": PostgreSQL does not carry {', '.join(change.blocked)} along, so in one "
            "transaction drop that, alter the type, and make it again"
        )
    if not change.spelled:
        return (
            ": PostgreSQL knows no way from the one type, or its default, to the other, so fill a "
            "new column by an expression of your own, and swap the two"
        )
    if change.found.endswith("[]") and not change.expected.endswith("[]"):
        return ", which keeps the first element of each array only"
    return ""


def _convert(on: Subject, column: str, change: TypeChange, how: str) -> Composable | tuple[()]:
    """The one statement that converts a column with its default; none where it takes more.

    A value that does not fit makes the statement fail. A cast would cut the value, so there is no
    cast to a length, and none at all where PostgreSQL needs none.
    """
    if change.blocked or not change.spelled:
        return ()
    alter = SQL("ALTER COLUMN {} TYPE {}").format(name(column), text(change.spelled))
    if how not in ("all", "wider", "narrower"):
        using = converted(name(column), change.found, _without_length(change.spelled))
        alter = SQL("{} USING {}").format(alter, using)
    parts = [alter]
    if change.default:
        default = SQL("({})").format(text(change.default))
        drop = SQL("ALTER COLUMN {} DROP DEFAULT").format(name(column))
        again = SQL("ALTER COLUMN {} SET DEFAULT {}").format(
            name(column), converted(default, change.found, change.spelled)
        )
        parts = [drop, *parts, again]
    return SQL("ALTER TABLE {} {}").format(table(on.table), comma(parts))


def _without_length(type_: str) -> str:
    return re.sub(r"^(character varying|character)\(\d+\)", "text", type_)
