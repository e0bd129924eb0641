# SPDX-License-Identifier: GPL-3.0-or-later
"""One difference between the models and the database as a person reads it: both sides, what it
breaks, and the ways out with what each costs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composable

from ..core.spec import Table
from ..core.sql import comma, cut, name, rename_column, render, table, text

CRITICAL, WARNING, NOTE = "critical", "warning", "note"
SEVERITIES = (CRITICAL, WARNING, NOTE)
"""Breaks the application or the backfill; makes it slow or lets wrong data in; neither."""

_BRIEFLY = "ACCESS EXCLUSIVE on the table, for the catalog change only: milliseconds"
_BUILDING = "no lock that readers or writers wait for; reads the table twice, in its own time"
_AFTER = ", after the rename"
_CODE = "no lock, no change of the database; every use in the code has to be found and released"
_ONE_LINE = "no lock, no change of the database; one line in the models, and a release"
_REWRITE = (
    "ACCESS EXCLUSIVE while every row and index is written anew, and the space of both; on a large "
    "table, fill a new column in batches and swap the two instead"
)
_VALIDATED = (
    "a lock for milliseconds, then SHARE UPDATE EXCLUSIVE while all rows are read: reads and "
    "writes go on; fails while rows contradict it"
)


@dataclass(frozen=True)
class Conversion:
    """How a column is converted by hand: the type as SQL spells it, empty where PostgreSQL knows no
    way to it; the column's default, empty where there is none; and what PostgreSQL will not carry
    along, so that it has to go first."""

    type: str
    default: str = ""
    blocked: tuple[str, ...] = ()


def missing_table(on: Table) -> dict[str, Any]:
    return _difference(
        "missing_table",
        CRITICAL,
        on,
        on.name,
        f"the phase needs table {on}, the database has none of that name",
        f'queries and writes that name it fail with: relation "{on.name}" does not exist',
        [_option("correct the name in the variables file, or create the table", True)],
    )


def unmodelled_table(on: Table) -> dict[str, Any]:
    return _difference(
        "unmodelled_table",
        WARNING,
        on,
        on.name,
        f"the database has table {on}, the models have none of that name",
        "nothing of this table was compared, so a difference would not be seen",
        [_option("add the table to the models, or correct phase_models", True, costs=_ONE_LINE)],
    )


def missing_column(on: Table, column: str, type_: str, spelled: str) -> dict[str, Any]:
    """spelled is the type as SQL takes it, empty where the server has no such type."""
    return _difference(
        "missing_column",
        CRITICAL,
        on,
        f"{on.name}.{column}",
        f"the models have column {on.name}.{column} ({type_}), the database has no such column and "
        "none of a similar name",
        _not_there(column),
        [
            _option(
                "add the column to the database" + ("" if spelled else _TYPE_FIRST),
                True,
                _add_column(on, column, spelled),
                f"{_BRIEFLY}, since it has no default; it is empty at first",
            ),
            _option("take the column out of the models", costs=_CODE),
        ],
    )


def surplus_column(on: Table, column: str, type_: str, *, required: bool) -> dict[str, Any]:
    """required is for a column that every INSERT has to name: NOT NULL, without a default."""
    told = ", NOT NULL and without a default" if required else ""
    return _difference(
        "surplus_column",
        WARNING if required else NOTE,
        on,
        f"{on.name}.{column}",
        f"the database has column {on.name}.{column} ({type_}{told}), the models have none",
        "an INSERT from the models does not name it and fails, unless a trigger fills it"
        if required
        else "nothing breaks: the application neither reads nor writes it",
        [
            _option("add the column to the models, or leave it", True, costs=_ONE_LINE),
            _option(
                "drop the column",
                sql=SQL("ALTER TABLE {} DROP COLUMN {}").format(table(on), name(column)),
                costs=f"{_BRIEFLY}; its values are lost, and whatever still reads it breaks",
            ),
        ],
    )


def renamed_column(
    on: Table,
    new: tuple[str, str],
    old: tuple[str, str],
    *,
    spelled: str,
    by_phase: bool,
    converted: bool = False,
) -> dict[str, Any]:
    """new and old are each a name and a type, spelled is the new type as SQL takes it; by_phase:
    the phase itself renames old to new, or puts it aside because its type is converted too."""
    known = "this phase renames it" if by_phase else "probably the same under another name"
    alone = by_phase and not converted
    here = "; this phase does it, in its step Rename the column" if alone else ""
    return _difference(
        "renamed_column",
        CRITICAL,
        on,
        f"{on.name}.{new[0]}",
        f"the models have column {on.name}.{new[0]} ({new[1]}), the database has {old[0]} "
        f"({old[1]}) in its place: {known}",
        _not_there(new[0]),
        [
            *([_swapped()] if converted else []),
            _option(
                f"rename the column in the database{here}",
                not converted,
                rename_column(on, old[0], new[0]),
                f"{_BRIEFLY}; no change of the code, and what depends on the column is in the plan",
            ),
            _option(f"call it {old[0]} in the models", costs=_CODE),
            _option(
                "keep both columns",
                sql=_add_column(on, new[0], spelled),
                costs="two columns for one thing, to be kept alike for ever, and twice the space",
            ),
        ],
        by_phase=by_phase,
    )


def other_type(
    on: Table,
    column: str,
    found: str,
    expected: str,
    conversion: Conversion,
    *,
    fits: str,
    renamed: bool = False,
    by_phase: bool = False,
) -> dict[str, Any]:
    """fits is "all" where each type holds every value of the other, "wider" where the database's
    holds every value of the models', "narrower" where it is the other way round, "alike" where the
    application reads and writes both in one way, else "". renamed: the column has to be renamed
    first. by_phase: the phase itself converts it."""
    severity = {"all": NOTE, "wider": WARNING, "alike": WARNING}.get(fits, CRITICAL)
    impact = {
        "all": "nothing breaks: both hold the same values",
        "wider": "nothing fails; values that the models do not allow can be stored",
        "narrower": "writes of longer or larger values fail, such as with: value too long",
        "alike": "reads and writes through SQLAlchemy work with either; json keeps duplicate keys, "
        "their order and white space, and has neither =, DISTINCT and GROUP BY nor @>, ? and their "
        "GIN indexes, which jsonb has",
    }
    catalog_only = fits == "narrower" and found.startswith("character varying")
    into_models = fits in ("all", "wider", "alike") and not by_phase
    told = f"{_AFTER if renamed else ''}{_first(conversion, found, expected)}"
    return _difference(
        "type",
        severity,
        on,
        f"{on.name}.{column}",
        f"the models have column {on.name}.{column} as {expected}, the database as {found}"
        + (": this phase converts it" if by_phase else ""),
        impact.get(fits, "values, comparisons and writes that suit one type fail with the other"),
        [
            *([_swapped()] if by_phase else []),
            _option(
                f"convert the column in a migration of its own{told}",
                not into_models and not by_phase,
                _convert(on, column, found, conversion, fits=fits),
                f"{_BRIEFLY}, since only the limit grows" if catalog_only else _REWRITE,
            ),
            _option(f"say {found} in the models", into_models, costs=_CODE),
        ],
        by_phase=by_phase,
    )


def _first(conversion: Conversion, found: str, expected: str) -> str:
    """What has to be known or done before a column is converted, or an empty text."""
    if conversion.blocked:
        return (
            f": PostgreSQL does not carry {', '.join(conversion.blocked)} along, so in one "
            "transaction drop that, alter the type, and make it again"
        )
    if not conversion.type:
        return (
            ": PostgreSQL knows no way from the one type, or its default, to the other, so fill a "
            "new column by an expression of your own, and swap the two"
        )
    if found.endswith("[]") and not expected.endswith("[]"):
        return ", which keeps the first element of each array only"
    return ""


def _convert(
    on: Table, column: str, found: str, conversion: Conversion, *, fits: str
) -> Composable | tuple[()]:
    """The one statement that converts a column with its default; none where it takes more.

    A value that does not fit makes it fail. A cast would cut it, so there is none to a length, and
    none at all where PostgreSQL needs none.
    """
    if conversion.blocked or not conversion.type:
        return ()
    alter = SQL("ALTER COLUMN {} TYPE {}").format(name(column), text(conversion.type))
    if fits not in ("all", "wider", "narrower"):
        using = converted(name(column), found, _without_length(conversion.type))
        alter = SQL("{} USING {}").format(alter, using)
    parts = [alter]
    if conversion.default:
        default = SQL("({})").format(text(conversion.default))
        drop = SQL("ALTER COLUMN {} DROP DEFAULT").format(name(column))
        again = SQL("ALTER COLUMN {} SET DEFAULT {}").format(
            name(column), converted(default, found, conversion.type)
        )
        parts = [drop, *parts, again]
    return SQL("ALTER TABLE {} {}").format(table(on), comma(parts))


def _without_length(type_: str) -> str:
    return re.sub(r"^(character varying|character)\(\d+\)", "text", type_)


def _add_column(on: Table, column: str, spelled: str) -> Composable | tuple[()]:
    if not spelled:
        return ()
    add = SQL("ALTER TABLE {} ADD COLUMN {} {}")
    return add.format(table(on), name(column), text(spelled))


_TYPE_FIRST = ", after its type, which the database has not"


def _swapped() -> dict[str, Any]:
    return _option(
        "put the column aside and fill a new one in batches; this phase does it, see the plan",
        True,
        costs=f"{_BRIEFLY}, without a rewrite; the old column stays until somebody drops it",
    )


def nullability(on: Table, column: str, *, not_null: bool, renamed: bool = False) -> dict[str, Any]:
    """not_null tells the database's side; the models say the opposite. renamed: the column has to
    be renamed first."""
    after = _AFTER if renamed else ""
    drop = SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(table(on), name(column))
    check = name(cut(column, "_not_null"))
    named = {"t": table(on), "c": name(column), "k": check}
    add = [
        [SQL("ALTER TABLE {t} ADD CONSTRAINT {k} CHECK ({c} IS NOT NULL) NOT VALID")],
        [SQL("ALTER TABLE {t} VALIDATE CONSTRAINT {k}")],
        [
            SQL("ALTER TABLE {t} ALTER COLUMN {c} SET NOT NULL"),
            SQL("ALTER TABLE {t} DROP CONSTRAINT {k}"),
        ],
    ]
    forbid = [[each.format(**named) for each in together] for together in add]
    return _difference(
        "nullability",
        WARNING,
        on,
        f"{on.name}.{column}",
        f"column {on.name}.{column} is NOT NULL in the database, the models allow NULL in it"
        if not_null
        else f"column {on.name}.{column} is NOT NULL in the models, the database allows NULL in it",
        "writes that leave it out fail with: null value violates not-null constraint"
        if not_null
        else "rows without a value can be stored, and the code does not expect them",
        [
            _option(f"allow NULL in the database{after}", False, drop, _BRIEFLY)
            if not_null
            else _option(f"forbid NULL in the database{after}", True, forbid, _VALIDATED),
            _option("say so in the models", not_null, costs=_ONE_LINE),
        ],
    )


def missing_index(
    on: Table, index: str, definition: str, sql: str, *, by_phase: bool, unique: bool
) -> dict[str, Any]:
    """definition is what comes after the name, such as (a, b); sql builds the index."""
    here = "; this phase does it, in its step Build the indexes" if by_phase else ""
    return _difference(
        "missing_index",
        WARNING,
        on,
        index,
        f"the models have index {index} on {on.name} {definition}, the database has none like it",
        "duplicates can be stored, and queries that rely on it read the whole table"
        if unique
        else "queries that rely on it read the whole table",
        [
            _option(f"build the index{here}", True, [[sql]], _BUILDING),
            _option("take the index out of the models", costs=_ONE_LINE),
        ],
        by_phase=by_phase,
    )


def changed_index(
    on: Table, index: str, found: str, expected: str, sql: Sequence[str], *, unique: bool
) -> dict[str, Any]:
    return _difference(
        "changed_index",
        WARNING,
        on,
        index,
        f"the models have index {index} on {on.name} as {expected}, the database as: {found}",
        "duplicates can be stored, which the models rule out"
        if unique
        else "queries that rely on the models' index may read the whole table",
        [
            _option("drop the index and build it as in the models", True, [sql], _REBUILD),
            _option("define it in the models as it is", costs=_ONE_LINE),
        ],
    )


_REBUILD = f"{_BUILDING}; meanwhile there is neither index"


def renamed_index(on: Table, new: str, old: str, *, by_phase: bool) -> dict[str, Any]:
    here = "; this phase does it, in its step Rename the index" if by_phase else ""
    return _difference(
        "renamed_index",
        NOTE,
        on,
        new,
        f"the models have index {new} on {on.name}, the database has the same as {old}",
        "nothing breaks now; a migration that names it fails",
        [
            _option(
                f"rename the index{here}",
                True,
                SQL("ALTER INDEX {} RENAME TO {}").format(name(on.schema, old), name(new)),
                "SHARE UPDATE EXCLUSIVE on the index, for the catalog change only: milliseconds",
            ),
            _option(f"call it {old} in the models", costs=_ONE_LINE),
        ],
        by_phase=by_phase,
    )


def surplus_index(on: Table, index: str, definition: str, *, by_phase: bool) -> dict[str, Any]:
    known = "; this phase wants it" if by_phase else ""
    return _difference(
        "surplus_index",
        NOTE,
        on,
        index,
        f"the database has index {index} on {on.name}, the models have none like it{known}: "
        f"{definition}",
        "nothing breaks; every write keeps it up",
        [
            _option("add the index to the models", True, costs=_ONE_LINE),
            _option(
                "drop the index, if pg_stat_user_indexes says that nobody reads it",
                sql=SQL("DROP INDEX CONCURRENTLY {}").format(name(on.schema, index)),
                costs="SHARE UPDATE EXCLUSIVE: reads and writes go on",
            ),
        ],
    )


def invalid_index(on: Table, index: str, *, modelled: bool, by_phase: bool) -> dict[str, Any]:
    drop = SQL("DROP INDEX CONCURRENTLY {}").format(name(on.schema, index))
    build = SQL("REINDEX INDEX CONCURRENTLY {}").format(name(on.schema, index))
    here = "; this phase drops it and builds it anew" if by_phase else ""
    wanted = modelled or by_phase
    return _difference(
        "invalid_index",
        WARNING,
        on,
        index,
        f"index {index} of {on.name} is INVALID in the database, the models "
        f"{'rely on it' if modelled else 'have none of that name'}: its build was broken off",
        "no query uses it, a unique one guarantees nothing, and every write still keeps it up",
        [
            _option(f"build it anew{here}", wanted, build, _BUILDING),
            _option("drop it", not wanted, drop, "SHARE UPDATE EXCLUSIVE: reads and writes go on"),
        ],
        by_phase=by_phase,
    )


def missing_foreign_key(
    on: Table,
    key: str,
    columns: Sequence[str],
    target: tuple[Table, Sequence[str]],
    told: str,
    options: Sequence[str],
) -> dict[str, Any]:
    """told is the target as it reads; options are such as ON DELETE CASCADE."""
    where = f"{on.name} ({', '.join(columns)})"
    constraint = name(key or _default_name(on, columns, "fkey"))
    add = SQL(
        "ALTER TABLE {t} ADD CONSTRAINT {k} FOREIGN KEY ({c}) REFERENCES {r} ({rc}){o} NOT VALID"
    ).format(
        t=table(on),
        k=constraint,
        c=comma(name(c) for c in columns),
        r=table(target[0]),
        rc=comma(name(c) for c in target[1]),
        o=text("".join(f" {option}" for option in options)),
    )
    validate = SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table(on), constraint)
    return _difference(
        "missing_foreign_key",
        WARNING,
        on,
        key or where,
        f"the models have a foreign key on {where} to {told}, the database has none",
        "rows that refer to nothing can be stored",
        [
            _option("add the foreign key", True, [[add], [validate]], _VALIDATED),
            _option("take it out of the models", costs=_ONE_LINE),
        ],
    )


def surplus_foreign_key(on: Table, key: str, columns: Sequence[str], to: str) -> dict[str, Any]:
    return _surplus_constraint(
        "surplus_foreign_key",
        on,
        key,
        f"the database has foreign key {key} on {on.name} ({', '.join(columns)}) to {to}, the "
        "models have none",
        "writes that it refuses fail, which the code may not expect",
    )


def changed_foreign_key(
    on: Table, key: str, columns: Sequence[str], found: str, expected: str
) -> dict[str, Any]:
    return _difference(
        "changed_foreign_key",
        WARNING,
        on,
        key,
        f"the models have the foreign key on {on.name} ({', '.join(columns)}) as {expected}, the "
        f"database has {key} as {found}",
        "changes and deletions in the table that it refers to do something else than the code "
        "expects",
        [
            _option("drop it and add it as in the models", True, costs=_VALIDATED),
            _option("define it in the models as it is", costs=_ONE_LINE),
        ],
    )


def missing_unique(on: Table, constraint: str, columns: Sequence[str]) -> dict[str, Any]:
    told = constraint or _default_name(on, columns, "key")
    named = {"k": name(told), "t": table(on), "c": comma(name(c) for c in columns)}
    sql = [
        [SQL("CREATE UNIQUE INDEX CONCURRENTLY {k} ON {t} ({c})").format(**named)],
        [SQL("ALTER TABLE {t} ADD CONSTRAINT {k} UNIQUE USING INDEX {k}").format(**named)],
    ]
    return _difference(
        "missing_unique",
        WARNING,
        on,
        told,
        f"the models have a unique constraint on {on.name} ({', '.join(columns)}), the database "
        "has none",
        "duplicates can be stored; ON CONFLICT on these columns fails",
        [
            _option("add the constraint", True, sql, f"{_BUILDING}; fails while duplicates exist"),
            _option("take it out of the models", costs=_ONE_LINE),
        ],
    )


def surplus_unique(on: Table, constraint: str, columns: Sequence[str]) -> dict[str, Any]:
    return _surplus_constraint(
        "surplus_unique",
        on,
        constraint,
        f"the database has unique constraint {constraint} on {on.name} ({', '.join(columns)}), the "
        "models have none",
        "writes of duplicates fail, which the code may not expect",
    )


def renamed_unique(on: Table, columns: Sequence[str], found: str, expected: str) -> dict[str, Any]:
    """found and expected tell form and name, such as "index u" and "constraint v"."""
    return _difference(
        "renamed_unique",
        NOTE,
        on,
        expected.split(" ", 1)[1],
        f"{on.name} ({', '.join(columns)}) is unique in the database by {found}, in the models by "
        f"{expected}",
        "nothing breaks now; a migration that names it fails",
        [_option("define it in the models as it is", True, costs=_ONE_LINE)],
    )


def unmatched(acknowledged: str) -> dict[str, Any]:
    """A name in phase_acknowledged_drift that is that of no difference."""
    return {
        **_difference(
            "unmatched_acknowledgement",
            NOTE,
            Table("", ""),
            acknowledged,
            f"the phase acknowledges {acknowledged} in phase_acknowledged_drift, and no difference "
            "between the models and the database has that name",
            "nothing breaks; if the name is mistyped, the difference that is meant still counts",
            [
                _option(
                    "correct the name, or take it out of phase_acknowledged_drift",
                    True,
                    costs="no lock, no change of the database; one line in the variables file",
                )
            ],
        ),
        "table": "",
    }


def primary_key(on: Table, found: Sequence[str], expected: Sequence[str]) -> dict[str, Any]:
    told = f"({', '.join(found)})" if found else "none"
    return _difference(
        "primary_key",
        WARNING,
        on,
        on.name,
        f"the models have the primary key ({', '.join(expected)}) on {on.name}, the database has "
        f"{told}",
        "rows that the application takes for one can be several, and the other way round",
        [
            _option("correct the models, if the database is right", True, costs=_CODE),
            _option(
                "build a unique index concurrently, and make it the primary key",
                costs=f"{_BUILDING}; then ACCESS EXCLUSIVE for milliseconds, where the columns are "
                "NOT NULL",
            ),
        ],
    )


def fits(found: str, expected: str) -> str:
    """How the database's type compares with the models': "all", "wider", "narrower", "alike" or "",
    as other_type() takes it. Both are in format_type()'s spelling."""
    if {found, expected} == {"json", "jsonb"}:
        return "alike"
    there, wanted = _size(found), _size(expected)
    if there is None or wanted is None or there[0] != wanted[0]:
        return ""
    if there[1] == wanted[1]:
        return "all"
    return "wider" if there[1] > wanted[1] else "narrower"


_INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}
_UNLIMITED = 10**9
"""More than any length: PostgreSQL's longest is 10,485,760 (its documentation, 8.3)."""


def _size(type_: str) -> tuple[str, int] | None:
    """The family of a type, and how much it holds; None for those without such an order."""
    if type_ in _INTEGERS:
        return "integer", _INTEGERS[type_]
    if type_ in ("text", "character varying"):
        return "string", _UNLIMITED
    start = "character varying("
    if type_.startswith(start) and type_.endswith(")"):
        return "string", int(type_[len(start) : -1])
    return None


def converted(of: Composable, found: str, expected: str) -> Composable:
    """The expression that turns a value into one of its new type. Of an array it takes the first
    element: more than one cannot become one value."""
    if found.endswith("[]") and not expected.endswith("[]"):
        return SQL("{}[1]::{}").format(of, text(expected))
    if expected.endswith("[]") and not found.endswith("[]"):
        return SQL("ARRAY[{}]::{}").format(of, text(expected))
    return SQL("{}::{}").format(of, text(expected))


def _default_name(on: Table, columns: Sequence[str], suffix: str) -> str:
    """A name for a constraint to which the models give none, in the manner of PostgreSQL."""
    return cut("_".join([on.name, *columns]), f"_{suffix}")


def _surplus_constraint(
    kind: str, on: Table, constraint: str, told: str, impact: str
) -> dict[str, Any]:
    return _difference(
        kind,
        NOTE,
        on,
        constraint,
        told,
        impact,
        [
            _option("add it to the models", True, costs=_ONE_LINE),
            _option(
                "drop the constraint",
                sql=SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(table(on), name(constraint)),
                costs=f"{_BRIEFLY}; wrong data can be stored from then on",
            ),
        ],
    )


def _not_there(column: str) -> str:
    return (
        "queries and writes that name it, the application's and the backfill's, fail with: column "
        f'"{column}" does not exist'
    )


def _difference(
    kind: str,
    severity: str,
    on: Table,
    object_: str,
    told: str,
    impact: str,
    resolutions: Iterable[dict[str, Any]],
    *,
    by_phase: bool = False,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "object": object_,
        "table": str(on),
        "severity": severity,
        "breaks": severity == CRITICAL,
        "by_phase": by_phase,
        "acknowledged": False,
        "text": told,
        "impact": impact,
        "resolutions": list(resolutions),
    }


def _option(
    option: str,
    recommended: bool = False,
    sql: Composable | Sequence[Sequence[Composable | str]] = (),
    costs: str = "",
) -> dict[str, Any]:
    """sql is a statement, or statements by the transactions that they belong in."""
    given = [[sql]] if isinstance(sql, Composable) else sql
    transactions = [[s if isinstance(s, str) else render(s) for s in each] for each in given]
    return {"option": option, "sql": transactions, "costs": costs, "recommended": recommended}
