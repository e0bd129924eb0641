# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase's columns in the table as it is now: there or not, and under which name."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.connection import Connection
from ..core.errors import RunbookError, require_none
from ..core.spec import Column, Spec, Table
from .tables import TableInfo, near_names


def present_names(spec: Spec, info: TableInfo) -> dict[str, str]:
    """For each column of the phase, the name that it bears now: before or after the rename.

    Raises RunbookError with the columns that are there under both names, or under neither.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for column in spec.columns:
        try:
            found[column.name] = _present_name(spec, column, info)
        except RunbookError as error:
            missing += error.obstacles
    require_none(missing)
    return found


def names_there(spec: Spec, info: TableInfo) -> dict[str, str]:
    """For each column of the phase that the table has, the name that it bears now."""
    found = {
        c.name: c.name if c.name in info.columns else c.renamed_from or "" for c in spec.columns
    }
    return {column: now for column, now in found.items() if now in info.columns}


def column_numbers(conn: Connection, info: TableInfo) -> dict[str, int]:
    """The columns' numbers by their names. A column keeps its number when it is renamed, and one
    that takes its name has another."""
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


def _present_name(spec: Spec, column: Column, info: TableInfo) -> str:
    new, old = column.name, column.renamed_from
    if new in info.columns and old in info.columns:
        raise RunbookError(
            f"Table {spec.table} has both {old!r} and {new!r}. A rename would lose neither, but "
            "would not know which to keep. Next step: find out which one the application writes "
            "(SELECT count(*) … WHERE … IS NOT NULL), and drop or rename the other by hand."
        )
    if new in info.columns:
        return new
    if old and old in info.columns:
        return old
    names = f"{old!r} nor {new!r}" if old else repr(new)
    raise RunbookError(
        f"Table {spec.table} has {'neither' if old else 'no column'} {names}."
        f"{near_names(new, info.columns)} Next step: correct phase_columns in the variables file."
    )
