# SPDX-License-Identifier: GPL-3.0-or-later
"""A column gets its right type without a rewrite of the table.

ALTER COLUMN … TYPE would write the whole table and its indexes anew, under ACCESS EXCLUSIVE. Here
the column of the wrong type is put aside under another name, and a new one takes its place: two
changes of the catalog. The backfill then moves the old values over, converted, in its batches, and
fills the others from the source. Nothing is lost: the old column stays until somebody drops it,
with its values, its indexes and its place in the table, and undoing the conversion is giving its
name back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

from psycopg.sql import SQL, Composed

from ..catalog import TableInfo, find_relation, types
from ..catalog.conversion import Conversion, aside, pending, superseded
from ..core.connection import Connection, one
from ..core.errors import RunbookError, require_none
from ..core.obstacles import Obstacles
from ..core.printable import yaml
from ..core.spec import Spec, Table
from ..core.sql import name, rename_column, rename_index, render, table, text
from .step import Step

LOCK = "ACCESS EXCLUSIVE, for the catalog change only: milliseconds once it is granted, no rewrite"

KEPT = (
    "by hand, the undo drops no column: what was stored in the new one meanwhile stays, under "
    "another name, until you have seen that nobody needs it"
)


@dataclass(frozen=True)
class Fate:
    """What becomes of the values of a column that is converted. values is how many there are. For
    some the conversion gives NULL: from_source of these are filled from the source, become_null
    become NULL. differ is how many of the others differ from the source's value."""

    values: int
    from_source: int
    become_null: int
    differ: int


@dataclass(frozen=True)
class Moving:
    """A conversion as a person approves it: the column, its name before (old) and the one under
    which it is kept (aside), both types, the expression, and the fate of the values."""

    column: str
    old: str
    aside: str
    from_: str
    type: str
    using: str
    values: int
    from_source: int
    become_null: int
    differ: int


def step(spec: Spec, info: TableInfo) -> Step:
    """The step of a plan that converts what is pending."""
    conversions = pending(spec, info)
    return Step(
        "convert",
        "Put the column of the wrong type aside and make a new one",
        statements=tuple(render(s) for each in conversions for s in statements(spec, each)),
        undo=tuple(
            ";\n".join(render(s) for s in undo_statements(spec, each)) for each in conversions
        ),
        lock=LOCK,
        needed=bool(conversions),
        note=KEPT if conversions else "",
    )


def statements(spec: Spec, conversion: Conversion) -> list[Composed]:
    """What puts the column aside and makes the new one, in one transaction."""
    column = conversion.column
    return [
        rename_column(spec.table, conversion.old, conversion.aside),
        *(rename_index(spec.table, index, aside(spec, index)) for index in conversion.indexes),
        SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
            table(spec.table), name(column.name), text(column.type)
        ),
    ]


def undo_statements(spec: Spec, conversion: Conversion) -> list[Composed]:
    """What gives the column that was put aside its name back, in one transaction, and keeps the new
    one under another name."""
    column, on = conversion.column, spec.table
    return [
        rename_column(on, column.name, superseded(spec, column)),
        rename_column(on, conversion.aside, conversion.old),
        *(rename_index(on, aside(spec, index), index) for index in conversion.indexes),
    ]


def drop_statement(spec: Spec, conversion: Conversion) -> Composed:
    """What drops the new column, once the conversion is undone and the column was found empty."""
    column = superseded(spec, conversion.column)
    return SQL("ALTER TABLE {} DROP COLUMN {}").format(table(spec.table), name(column))


def left_to_undo(
    spec: Spec, info: TableInfo, conversion: Conversion, *, there: bool
) -> list[Composed]:
    """The statements of the undo that are still to be done. there is whether the new column still
    has its name."""
    if conversion.aside not in info.columns:
        return []
    return undo_statements(spec, conversion)[0 if there else 1 :]


def require_safe(
    conn: Connection, spec: Spec, info: TableInfo, fates: Mapping[str, Fate]
) -> list[Moving]:
    """The conversions that are needed; fates has what becomes of the values, by the column's right
    name.

    Raises RunbookError with each conversion that would lose something, or has values to move that
    nobody acknowledged.
    """
    obstacles = Obstacles(conn)
    found = []
    obstacles.checked(require_none, _kept_under_one_name(spec, pending(spec, info)))
    for each in pending(spec, info):
        obstacles.checked(_require_free, conn, spec, info, each)
        obstacles.checked(_require_no_rewrite, conn, spec, each)
        obstacles.checked(_require_plain, conn, spec, info, each)
        moving = obstacles.checked(_moving, spec, each, fates[each.column.name])
        found += [moving] if moving else []
    obstacles.require_none()
    return found


def _moving(spec: Spec, conversion: Conversion, fate: Fate) -> Moving:
    column, lost = conversion.column, fate.from_source + fate.become_null
    if fate.values and conversion.old not in spec.acknowledged:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} is {column.converted_from} and "
            f"holds {fate.values:,} values, of which {column.using!r} makes {lost:,} "
            f"NULL ({fate.from_source:,} of them are filled from the source). The backfill would "
            "move them in its batches; until a row's turn comes, queries find "
            f"NULL in {column.name!r}. Next step: if the application can bear that, "
            f"list {yaml(conversion.old)} in phase_acknowledged."
        )
    return Moving(
        column=column.name,
        old=conversion.old,
        aside=conversion.aside,
        from_=column.converted_from or "",
        type=column.type,
        using=column.using or "",
        **asdict(fate),
    )


def _kept_under_one_name(spec: Spec, conversions: Sequence[Conversion]) -> Iterator[str]:
    """Columns, and indexes, whose long names are told apart only by an end that is cut off."""
    indexes = dict.fromkeys(index for each in conversions for index in each.indexes)
    for what, names in (("Columns", [c.column.name for c in conversions]), ("Indexes", [*indexes])):
        for first, second in combinations(names, 2):
            if aside(spec, first) == aside(spec, second):
                yield (
                    f"{what} {first!r} and {second!r} of {spec.table} would both be kept as "
                    f"{aside(spec, first)!r}, because PostgreSQL's names have 63 bytes. Next step: "
                    "convert the columns in two phases, one after the other."
                )


def _require_no_rewrite(conn: Connection, spec: Spec, conversion: Conversion) -> None:
    column = conversion.column
    found = types.constrained_domain(conn, column.type)
    if found:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} is to become {column.type}, and the domain "
            f"{found[0]} has a constraint: PostgreSQL would write the whole table anew for such a "
            f"column, and nobody could read it meanwhile. Next step: set type of {column.name!r} "
            "in phase_columns to the type that the domain is made of, and put the constraint on "
            "the column itself, with NOT VALID."
        )


def _require_free(conn: Connection, spec: Spec, info: TableInfo, conversion: Conversion) -> None:
    names = [conversion.aside, superseded(spec, conversion.column)]
    taken = [n for n in names if n in info.columns]
    indexes = [aside(spec, index) for index in conversion.indexes]
    taken += [n for n in indexes if find_relation(conn, Table(spec.table.schema, n))]
    if taken:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} is to be converted, but the name "
            f"{taken[0]!r} that this needs is taken, perhaps by what an earlier conversion kept. "
            "Next step: see whether that is still needed, and drop or rename it."
        )


def _require_plain(conn: Connection, spec: Spec, info: TableInfo, conversion: Conversion) -> None:
    row = one(
        conn,
        "SELECT array_remove(ARRAY["
        " CASE WHEN attnotnull THEN 'is NOT NULL' END,"
        " CASE WHEN attidentity <> '' THEN 'is an identity column'"
        "      WHEN attgenerated <> '' THEN 'is generated'"
        "      WHEN atthasdef THEN 'has a default' END,"
        " CASE WHEN attacl IS NOT NULL THEN 'has privileges of its own' END], NULL) AS found"
        " FROM pg_attribute WHERE attrelid = %s::oid AND attname = %s",
        (info.oid, conversion.old),
    )
    if row["found"]:
        raise RunbookError(
            f"Column {conversion.old!r} of {spec.table} {' and '.join(row['found'])}, which the "
            "new column of the right type would not have. Next step: take that from it first, or "
            "convert it in a migration of its own."
        )
