# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a primary, unique or foreign key that differs: what that breaks, and the ways
out."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg.sql import SQL, Composed

from ..core.spec import Table
from ..core.sql import comma, cut, name, table, text
from .difference import NOTE, WARNING, Difference, Sides, difference
from .resolution import BRIEFLY, BUILDING, CODE, ONE_LINE, VALIDATED, Subject, Transactions, Way


def primary_key(on: Subject, found: Sequence[str], expected: Sequence[str]) -> Difference:
    told = _listed(found) if found else "none"
    return difference(
        "primary_key",
        WARNING,
        on,
        on.name,
        Sides(f"primary key of {on.name}", _listed(expected), told),
        f"the models have the primary key {_listed(expected)} on {on.name}, the database has "
        f"{told}",
        "rows that the application takes for one can be several, and the other way round",
        Way("correct the models, if the database is right", True, costs=CODE),
        Way(
            "build a unique index concurrently, and make it the primary key",
            costs=f"{BUILDING}; then ACCESS EXCLUSIVE for milliseconds, where the columns are "
            "NOT NULL",
        ),
    )


def missing_foreign_key(
    on: Subject,
    key: str,
    columns: Sequence[str],
    target: tuple[Table, Sequence[str]],
    told: str,
    options: Sequence[str],
) -> Difference:
    """target is the table and the columns that the key refers to; told is how a person reads that;
    options are such as ON DELETE CASCADE."""
    where = f"{on.name} {_listed(columns)}"
    constraint = name(key or _default_name(on, columns, "fkey"))
    add = SQL(
        "ALTER TABLE {t} ADD CONSTRAINT {k} FOREIGN KEY ({c}) REFERENCES {r} ({rc}){o} NOT VALID"
    ).format(
        t=table(on.table),
        k=constraint,
        c=comma(name(c) for c in columns),
        r=table(target[0]),
        rc=comma(name(c) for c in target[1]),
        o=text("".join(f" {option}" for option in options)),
    )
    validate = SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table(on.table), constraint)
    return difference(
        "missing_foreign_key",
        WARNING,
        on,
        key or where,
        Sides(f"foreign key on {where}", f"to {told}", "none"),
        f"the models have a foreign key on {where} to {told}, the database has none",
        "rows that refer to nothing can be stored",
        Way("add the foreign key", True, [[add], [validate]], VALIDATED),
        Way("take it out of the models", costs=ONE_LINE),
    )


def surplus_foreign_key(on: Subject, key: str, columns: Sequence[str], to: str) -> Difference:
    return difference(
        "surplus_foreign_key",
        NOTE,
        on,
        key,
        Sides(f"foreign key {key}", "none", f"{_listed(columns)} to {to}"),
        f"the database has foreign key {key} on {on.name} {_listed(columns)} to {to}, the "
        "models have none",
        "writes that it refuses fail, which the code may not expect",
        *_keep_or_drop(on, key),
    )


def changed_foreign_key(
    on: Subject, key: str, columns: Sequence[str], found: str, expected: str
) -> Difference:
    return difference(
        "changed_foreign_key",
        WARNING,
        on,
        key,
        Sides(f"foreign key {key}", expected, found),
        f"the models have the foreign key on {on.name} {_listed(columns)} as {expected}, the "
        f"database has {key} as {found}",
        "changes and deletions in the table that it refers to do something else than the code "
        "expects",
        Way("drop it and add it as in the models", True, costs=VALIDATED),
        Way("define it in the models as it is", costs=ONE_LINE),
    )


def missing_unique(on: Subject, constraint: str, columns: Sequence[str]) -> Difference:
    named = constraint or _default_name(on, columns, "key")
    return difference(
        "missing_unique",
        WARNING,
        on,
        named,
        Sides(f"unique constraint {named}", _listed(columns), "none"),
        f"the models have a unique constraint on {on.name} {_listed(columns)}, the database "
        "has none",
        "duplicates can be stored; ON CONFLICT on these columns fails",
        Way(
            "add the constraint",
            True,
            _add_unique(on, named, columns),
            f"{BUILDING}; fails while duplicates exist",
        ),
        Way("take it out of the models", costs=ONE_LINE),
    )


def surplus_unique(on: Subject, constraint: str, columns: Sequence[str]) -> Difference:
    return difference(
        "surplus_unique",
        NOTE,
        on,
        constraint,
        Sides(f"unique constraint {constraint}", "none", _listed(columns)),
        f"the database has unique constraint {constraint} on {on.name} {_listed(columns)}, the "
        "models have none",
        "writes of duplicates fail, which the code may not expect",
        *_keep_or_drop(on, constraint),
    )


def renamed_unique(
    on: Subject, columns: Sequence[str], found: tuple[str, str], expected: tuple[str, str]
) -> Difference:
    """found and expected are each a form and a name, such as "index" and "u"."""
    return difference(
        "renamed_unique",
        NOTE,
        on,
        expected[1],
        Sides(f"unique {_listed(columns)} of {on.name}", " ".join(expected), " ".join(found)),
        f"{on.name} {_listed(columns)} is unique in the database by {' '.join(found)}, in the "
        f"models by {' '.join(expected)}",
        "nothing breaks now; a migration that names it fails",
        Way("define it in the models as it is", True, costs=ONE_LINE),
    )


def _listed(columns: Sequence[str]) -> str:
    return f"({', '.join(columns)})"


def _add_unique(on: Subject, constraint: str, columns: Sequence[str]) -> Transactions:
    named = {"k": name(constraint), "t": table(on.table), "c": comma(name(c) for c in columns)}
    build = SQL("CREATE UNIQUE INDEX CONCURRENTLY {k} ON {t} ({c})").format(**named)
    add = SQL("ALTER TABLE {t} ADD CONSTRAINT {k} UNIQUE USING INDEX {k}").format(**named)
    return [[build], [add]]


def _keep_or_drop(on: Subject, constraint: str) -> tuple[Way, Way]:
    """The ways out of a constraint that only the database has."""
    drop: Composed = SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
        table(on.table), name(constraint)
    )
    return (
        Way("add it to the models", True, costs=ONE_LINE),
        Way(
            "drop the constraint",
            sql=drop,
            costs=f"{BRIEFLY}; wrong data can be stored from then on",
        ),
    )


def _default_name(on: Subject, columns: Sequence[str], suffix: str) -> str:
    """A name for a constraint that has none in the models, made as PostgreSQL makes it."""
    return cut("_".join([on.name, *columns]), f"_{suffix}")
