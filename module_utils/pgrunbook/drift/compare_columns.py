# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs in the columns of a table."""

from __future__ import annotations

from collections.abc import Iterator

from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec
from . import column_kinds, type_kinds
from .compared import Compared
from .difference import Difference
from .type_change import type_change
from .types import Type, is_same, spelled


def column_differences(conn: Connection, spec: Spec, both: Compared) -> Iterator[Difference]:
    """The columns that only one side has, that have another name, type or nullability."""
    yield from _missing(conn, both)
    yield from _renamed(conn, spec, both)
    yield from _surplus(conn, both)
    yield from _changed(conn, spec, both)


def _missing(conn: Connection, both: Compared) -> Iterator[Difference]:
    for column in both.changes.missing:
        if column not in both.aliases.values():
            type_ = both.types[column]
            yield column_kinds.missing_column(
                both.subject, column, type_.spelling, spelled(conn, type_)
            )


def _renamed(conn: Connection, spec: Spec, both: Compared) -> Iterator[Difference]:
    ours = spec.columns if both.table == spec.table else ()
    declared = {(c.renamed_from, c.name) for c in ours}
    for old, new in both.aliases.items():
        found, expected = both.info.columns[old].type, both.types[new]
        yield column_kinds.renamed_column(
            both.subject,
            (new, expected.spelling),
            (old, found),
            spelled=spelled(conn, expected),
            by_phase=(old, new) in declared,
            converted=_is_converted(spec, both, new, found),
        )


def _surplus(conn: Connection, both: Compared) -> Iterator[Difference]:
    required = _required(conn, both.info)
    for column in both.changes.surplus:
        if column not in both.aliases:
            type_ = both.info.columns[column].type
            yield column_kinds.surplus_column(
                both.subject, column, type_, required=column in required
            )


def _changed(conn: Connection, spec: Spec, both: Compared) -> Iterator[Difference]:
    """The columns of both sides whose type differs, or which allow NULL on one side only."""
    present = {new: old for old, new in both.aliases.items()}
    for column in both.model.columns:
        now, renamed = present.get(column.name, column.name), column.name in present
        found = both.info.columns.get(now)
        if found is None:
            continue
        expected = both.types[column.name]
        if not is_same(Type(found.type_oid, found.type), expected):
            yield type_kinds.other_type(
                both.subject,
                column.name,
                type_change(conn, both.table, both.info, now, expected),
                renamed=renamed,
                by_phase=_is_converted(spec, both, column.name, found.type),
            )
        # Alembic tells of columns that have one name on both sides.
        differs = column.nullable is found.not_null and not found.generated
        if column.name in both.changes.nullability or (renamed and differs):
            told = column_kinds.forbidden_null if found.not_null else column_kinds.allowed_null
            yield told(both.subject, column.name, renamed=renamed)


def _is_converted(spec: Spec, both: Compared, column: str, found: str) -> bool:
    """Whether the phase itself converts a column of its table from the type that it has now."""
    ours = spec.columns if both.table == spec.table else ()
    return (column, found) in {(c.name, c.converted_from) for c in ours}


def _required(conn: Connection, info: TableInfo) -> set[str]:
    """The columns that an INSERT has to name."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND attnotnull"
        " AND NOT atthasdef AND attidentity = '' AND NOT attisdropped",
        (info.oid,),
    )
    return {row["attname"] for row in rows}
