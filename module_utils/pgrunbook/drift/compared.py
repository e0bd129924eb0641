# SPDX-License-Identifier: GPL-3.0-or-later
"""A table as the models and the database have it, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec, Table
from .alembic_changes import Changes
from .difference import Difference
from .model_index import column_names
from .renames import renames
from .resolution import Subject
from .types import Type, are_compatible, type_of

if TYPE_CHECKING:
    from sqlalchemy import Table as ModelTable


@dataclass(frozen=True)
class Compared:
    """A table of the phase as the models and the catalog have it. types are the models' types, by
    column. aliases are the columns that are only renamed, {name in the database: name in the
    models}."""

    subject: Subject
    model: ModelTable
    info: TableInfo
    types: dict[str, Type]
    changes: Changes
    aliases: dict[str, str]

    @property
    def table(self) -> Table:
        return self.subject.table

    def in_models(self, columns: Iterable[str]) -> tuple[str, ...]:
        """These columns of the database under their names in the models."""
        return tuple(self.aliases.get(c, c) for c in columns)

    def columns_of(self, difference: Difference) -> list[str]:
        """The columns that a difference of the table is about, under every name that they have."""
        found = difference.object
        if found.startswith(f"{self.table.name}."):
            column = found.removeprefix(f"{self.table.name}.")
            return [column, *(old for old, new in self.aliases.items() if new == column)]
        if difference.kind == "primary_key":
            return [c.name for c in self.model.primary_key.columns]
        columns = list(self.info.indexes[found].columns) if found in self.info.indexes else []
        columns += [c for i in self.model.indexes if i.name == found for c in column_names(i)]
        for key in self.changes.keys:
            if found in (key.name, f"{self.table.name} ({', '.join(key.columns)})"):
                columns += key.columns
        return columns or list(self.info.columns)


def side_by_side(
    conn: Connection,
    spec: Spec,
    subject: Subject,
    model: ModelTable,
    info: TableInfo,
    changes: Changes,
) -> Compared:
    """The two sides of a table. A column that Alembic tells as one missing and one surplus is found
    here under both its names."""
    types = {c.name: type_of(conn, c) for c in model.columns}

    def alike(new: str, old: str) -> bool:
        return are_compatible(conn, types[new].oid, info.columns[old].type_oid)

    missing, surplus = set(changes.missing), set(changes.surplus)
    aliases = {
        c.renamed_from: c.name
        for c in spec.columns
        if subject.table == spec.table and c.renamed_from in surplus and c.name in missing
    }
    aliases |= renames(missing - set(aliases.values()), surplus - aliases.keys(), alike)
    return Compared(subject, model, info, types, changes, aliases)
