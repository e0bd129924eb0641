# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs in the primary, unique and foreign keys of a table.

Columns of the database that are only renamed count under their names in the models: the rename is
told once, and not again for every key on them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Table
from . import key_kinds
from .alembic_changes import Key
from .compared import Compared
from .difference import Difference
from .model_index import column_names, is_plain
from .resolution import Subject

Renamed = Mapping[Table, Mapping[str, str]]
"""The columns of each table that are only renamed, {name in the database: name in the models}."""


@dataclass(frozen=True)
class Form:
    """Columns that are unique on both sides, by an index on one and by a constraint on the other.
    found is what the database has: "index" or "constraint"."""

    index: str
    key: Key
    columns: tuple[str, ...]
    found: str

    def told(self, on: Subject) -> Difference:
        index, constraint = ("index", self.index), _constraint(self.key)
        sides = (index, constraint) if self.found == "index" else (constraint, index)
        return key_kinds.renamed_unique(on, self.columns, *sides)


def other_forms(both: Compared) -> list[Form]:
    """What is unique on both sides, but by another form on each."""
    models = {str(index.name): index for index in both.model.indexes}
    there = {
        both.in_models(index.columns): name_
        for name_, index in both.info.indexes.items()
        if index.unique and index.plain and index.valid and name_ in both.changes.surplus_indexes
    }
    wanted = {
        column_names(models[name_]): name_
        for name_ in both.changes.missing_indexes
        if models[name_].unique and is_plain(models[name_])
    }
    forms = [
        Form(there[key.columns], key, key.columns, "index")
        for key in both.changes.missing_unique
        if key.columns in there
    ]
    for key in both.changes.surplus_unique:
        columns = both.in_models(key.columns)
        if columns in wanted:
            forms.append(Form(wanted[columns], key, columns, "constraint"))
    return forms


def key_differences(
    conn: Connection, both: Compared, renamed: Renamed, told: Collection[Key]
) -> Iterator[Difference]:
    """What differs in the primary, unique and foreign keys of a table. told has the unique keys
    that another difference is already about."""
    yield from _primary_keys(conn, both)
    yield from _unique_keys(both, told)
    yield from _foreign_keys(both, renamed)


def _primary_keys(conn: Connection, both: Compared) -> Iterator[Difference]:
    found = both.in_models(_primary_key(conn, both.info))
    expected = [c.name for c in both.model.primary_key.columns]
    if set(found) != set(expected):
        yield key_kinds.primary_key(both.subject, found, expected)


def _primary_key(conn: Connection, info: TableInfo) -> list[str]:
    rows = conn.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = ANY (i.indkey::int2[]) WHERE i.indrelid = %s::oid AND i.indisprimary"
        " ORDER BY array_position(i.indkey::int2[], a.attnum)",
        (info.oid,),
    )
    return [row["attname"] for row in rows]


def _unique_keys(both: Compared, told: Collection[Key]) -> Iterator[Difference]:
    changes = both.changes
    surplus = {k.name: both.in_models(k.columns) for k in changes.surplus_unique if k not in told}
    for key in changes.missing_unique:
        if key in told:
            continue
        same = next((n for n, columns in surplus.items() if columns == key.columns), None)
        if same is None:
            yield key_kinds.missing_unique(both.subject, key.name, key.columns)
            continue
        del surplus[same]
        if key.name and same != key.name:
            yield key_kinds.renamed_unique(
                both.subject, key.columns, ("constraint", same), _constraint(key)
            )
    for constraint, columns in surplus.items():
        yield key_kinds.surplus_unique(both.subject, constraint, columns)


def _constraint(key: Key) -> tuple[str, str]:
    return "constraint", key.name or "without a name"


def _foreign_keys(both: Compared, renamed: Renamed) -> Iterator[Difference]:
    on = both.subject
    surplus = [_under_new_names(key, both.aliases, renamed) for key in both.changes.surplus_keys]
    for key in both.changes.missing_keys:
        same = next(
            (k for k in surplus if (k.columns, k.target) == (key.columns, key.target)), None
        )
        if same:
            surplus.remove(same)
            if same.options != key.options:
                told = _reference(same), _reference(key)
                yield key_kinds.changed_foreign_key(on, same.name, key.columns, *told)
        elif key.target:
            yield key_kinds.missing_foreign_key(
                on, key.name, key.columns, key.target, _reference(key), key.options
            )
    for key in surplus:
        yield key_kinds.surplus_foreign_key(on, key.name, key.columns, _reference(key))


def _under_new_names(key: Key, aliases: Mapping[str, str], renamed: Renamed) -> Key:
    columns = tuple(aliases.get(c, c) for c in key.columns)
    if key.target is None:
        return replace(key, columns=columns)
    table_, theirs = key.target
    there = renamed.get(table_, {})
    return replace(key, columns=columns, target=(table_, tuple(there.get(c, c) for c in theirs)))


def _reference(key: Key) -> str:
    to, columns = key.target or ("", ())
    return " ".join([f"{to} ({', '.join(columns)})", *key.options])
