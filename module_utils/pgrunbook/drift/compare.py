# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the database have the schema that the application's SQLAlchemy models expect?

Alembic compares names, columns and constraints. PostgreSQL itself decides whether two types are the
same. Alembic tells a thing under another name as two, one missing and one surplus; here they are
joined. CHECK constraints, defaults and comments are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec, Table
from . import table_kinds
from .alembic_changes import changes_of_view, compare_tables, with_schemas
from .compare_columns import column_differences
from .compare_indexes import index_differences
from .compare_keys import key_differences, other_forms
from .compared import Compared, side_by_side
from .difference import SEVERITIES, Difference, acknowledged, unread
from .models import comparing, load_metadata
from .resolution import Subject
from .source_columns import reads
from .text import listing

if TYPE_CHECKING:
    from sqlalchemy import MetaData
    from sqlalchemy import Table as ModelTable


@dataclass(frozen=True)
class Drift:
    """How the schema differs from the models: the differences, the worst first, and their text."""

    differences: tuple[Difference, ...]
    text: str


def compare(conn: Connection, spec: Spec, models: str) -> Drift:
    """Compare both tables of the phase with the models, "path/to/models.py:Base" or
    "package.module:Base".

    Raises RunbookError where the models cannot be loaded or compared.
    """
    metadata = load_metadata(models)
    with comparing(models):
        found = sorted(_differences(conn, spec, metadata), key=_rank)
    known, names = set(spec.acknowledged_drift), {each.object for each in found}
    differences = (
        *(acknowledged(each) if each.object in known else each for each in found),
        *(
            table_kinds.unmatched_acknowledgement(name)
            for name in spec.acknowledged_drift
            if name not in names
        ),
    )
    return Drift(differences, listing(differences))


def _rank(difference: Difference) -> tuple[int, str, str]:
    return SEVERITIES.index(difference.severity), difference.table, difference.object


def _differences(conn: Connection, spec: Spec, metadata: MetaData) -> Iterator[Difference]:
    metadata = with_schemas(conn, spec, metadata)
    compared: dict[Table, tuple[ModelTable, TableInfo]] = {}
    for on in dict.fromkeys([spec.table, spec.source]):
        subject = Subject(on, spec.lock_timeout_ms)
        model = metadata.tables.get(f"{on.schema}.{on.name}")
        if catalog.find_relation(conn, on) is None:
            yield table_kinds.missing_table(subject)
            continue
        info = catalog.inspect(conn, on, catalog.READABLE)
        if model is None:
            yield table_kinds.unmodelled_table(subject)
        else:
            compared[on] = (model, info)
    changes = compare_tables(conn, metadata, compared)
    tables = [
        side_by_side(
            conn,
            spec,
            _subject(spec, on, info),
            model,
            info,
            changes_of_view(model, info) if info.view else changes[on],
        )
        for on, (model, info) in compared.items()
    ]
    renamed = {each.table: each.aliases for each in tables}
    for each in tables:
        for found in _of_table(conn, spec, each, renamed):
            yield found if _is_read(spec, each, found) else unread(found)


def _subject(spec: Spec, on: Table, info: TableInfo) -> Subject:
    owner = "" if info.owned else info.owner
    return Subject(on, spec.lock_timeout_ms, info.view, info.partitioned, owner)


def _of_table(
    conn: Connection, spec: Spec, both: Compared, renamed: dict[Table, dict[str, str]]
) -> Iterator[Difference]:
    """The differences of a table. A view has columns only."""
    yield from column_differences(conn, spec, both)
    if both.info.view:
        return
    forms = other_forms(both)
    yield from (form.told(both.subject) for form in forms)
    yield from index_differences(conn, spec, both, {form.index for form in forms})
    yield from key_differences(conn, both, renamed, {form.key for form in forms})


def _is_read(spec: Spec, both: Compared, found: Difference) -> bool:
    """Whether the phase reads what differs: of its own table, it does."""
    return both.table == spec.table or any(reads(spec, c) for c in both.columns_of(found))
