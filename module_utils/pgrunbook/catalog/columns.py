# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase's columns in the table as it is now: there or not, and under which name."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from psycopg.sql import SQL

from ..core import printable
from ..core.connection import Connection
from ..core.errors import require_none
from ..core.spec import Column, Spec, Table
from ..core.sql import name, render, table
from .relations import near_names
from .tables import TableInfo


def name_now(column: Column, there: Container[str]) -> str:
    """The name that a column of the phase bears in a table with these columns: the right one where
    that is there, else the one that it is to be renamed from."""
    return column.name if column.name in there else column.renamed_from or column.name


def names_there(spec: Spec, info: TableInfo) -> dict[str, str]:
    """For each column of the phase that the table has, the name that it bears now."""
    names = {column.name: name_now(column, info.columns) for column in spec.columns}
    return {column: now for column, now in names.items() if now in info.columns}


def present_names(spec: Spec, info: TableInfo) -> dict[str, str]:
    """For each column of the phase, the name that it bears now.

    Raises RunbookError with the columns that the table has under both names, or under neither.
    """
    require_none(obstacle for column in spec.columns for obstacle in _obstacles(spec, column, info))
    return names_there(spec, info)


def column_numbers(conn: Connection, info: TableInfo) -> dict[str, int]:
    """The columns' numbers by their names. A column keeps its number when it is renamed; a new
    column of the same name gets another number."""
    rows = conn.execute(
        "SELECT attname, attnum FROM pg_attribute"
        " WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped",
        (info.oid,),
    )
    return {row["attname"]: row["attnum"] for row in rows}


def require_columns(table: Table, info: TableInfo, names: Iterable[str]) -> None:
    """Raise RunbookError with the columns that the table lacks."""
    require_none(
        f"Table {table} has no column {name!r}.{near_names(name, info.columns)} "
        "Next step: correct the name in the variables file."
        for name in names
        if name not in info.columns
    )


def _obstacles(spec: Spec, column: Column, info: TableInfo) -> Iterator[str]:
    """Why it cannot be told which column of the table is meant; nothing where it can."""
    new, old = column.name, column.renamed_from
    if new in info.columns and old in info.columns:
        counting = SQL("SELECT count({}), count({}) FROM {}").format(
            name(old), name(new), table(spec.table)
        )
        yield (
            f"Table {spec.table} has both {old!r} and {new!r}. A rename would lose neither, but "
            "would not know which to keep. Next step: find out which one the application writes "
            f"({printable.sql(render(counting))};), and drop or rename the other by hand."
        )
    if new not in info.columns and old not in info.columns:
        names = f"{old!r} nor {new!r}" if old else repr(new)
        yield (
            f"Table {spec.table} has {'neither' if old else 'no column'} {names}."
            f"{near_names(new, info.columns)} Next step: correct phase_columns in the variables "
            "file."
        )
