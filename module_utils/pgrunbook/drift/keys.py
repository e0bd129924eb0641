# SPDX-License-Identifier: GPL-3.0-or-later
"""The differences of indexes, unique constraints, primary and foreign keys.

Columns of the database that are only renamed count under their names in the models, so what is on
them is not told again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg.sql import SQL

from .. import catalog
from ..catalog import IndexInfo, TableInfo, conversion
from ..core.connection import Connection
from ..core.spec import Index, Spec, Table
from ..core.sql import comma, name, render, table
from . import kinds
from .changes import Both, Key


@dataclass(frozen=True)
class _Form:
    """Columns that are unique on both sides, by an index on the one and by a constraint on the
    other. found is the database's side: "index" or "constraint"."""

    index: str
    key: Key
    columns: tuple[str, ...]
    found: str

    def told(self, on: Table) -> dict[str, Any]:
        index, constraint = f"index {self.index}", f"constraint {self.key.name or 'without a name'}"
        sides = (index, constraint) if self.found == "index" else (constraint, index)
        return kinds.renamed_unique(on, self.columns, *sides)


def other_forms(both: Both) -> list[_Form]:
    """What is unique on both sides, though not by the same form."""
    models = {str(index.name): index for index in both.model.indexes}
    there = {
        _in_models(both, index.columns): name_
        for name_, index in both.info.indexes.items()
        if index.unique and index.plain and index.valid and name_ in both.changes.surplus_indexes
    }
    wanted = {
        _column_names(models[name_]): name_
        for name_ in both.changes.missing_indexes
        if models[name_].unique and _is_plain(models[name_])
    }
    forms = [
        _Form(there[key.columns], key, key.columns, "index")
        for key in both.changes.missing_unique
        if key.columns in there
    ]
    for key in both.changes.surplus_unique:
        columns = _in_models(both, key.columns)
        if columns in wanted:
            forms.append(_Form(wanted[columns], key, columns, "constraint"))
    return forms


def columns_of(both: Both, difference: Mapping[str, Any]) -> list[str]:
    """The columns that a difference of a table is about, under whichever names they have."""
    found, on = difference["object"], both.table
    if found.startswith(f"{on.name}."):
        column = found.removeprefix(f"{on.name}.")
        return [column, *(old for old, new in both.aliases.items() if new == column)]
    if difference["kind"] == "primary_key":
        return [c.name for c in both.model.primary_key.columns]
    columns = list(both.info.indexes[found].columns) if found in both.info.indexes else []
    columns += [c for i in both.model.indexes if i.name == found for c in _column_names(i)]
    changes = both.changes
    for key in (
        *changes.missing_unique,
        *changes.surplus_unique,
        *changes.missing_keys,
        *changes.surplus_keys,
    ):
        if found in (key.name, f"{on.name} ({', '.join(key.columns)})"):
            columns += key.columns
    return columns or list(both.info.columns)


def _in_models(both: Both, columns: Iterable[str]) -> tuple[str, ...]:
    """Columns of the database under their names in the models."""
    return tuple(both.aliases.get(c, c) for c in columns)


def index_differences(
    conn: Connection, spec: Spec, both: Both, told: Collection[str]
) -> Iterator[dict[str, Any]]:
    """What differs in the indexes of a table. told has the names of those of which something is
    said already."""
    on, found = both.table, both.info.indexes
    models = {str(index.name): index for index in both.model.indexes}
    phase = {i.name: i for i in spec.indexes} if on == spec.table else {}
    invalid = [n for n, index in found.items() if not index.valid]
    skipped = {*told, *invalid}
    surplus = [n for n in both.changes.surplus_indexes if n not in skipped]
    missing = [n for n in both.changes.missing_indexes if n not in told]
    changed = [n for n in missing if n in surplus]
    changed += [
        n
        for n in models
        if n in found and n not in missing + invalid and not _alike(both, found[n], models[n])
    ]
    converting = conversion.pending(spec, both.info) if on == spec.table else []
    aside = {n for n in surplus if {each.old for each in converting} & set(found[n].columns)}
    by_name = _same_indexes(both, models, missing, [n for n in surplus if n not in aside])
    for index in invalid:
        yield kinds.invalid_index(
            on, index, modelled=index in models, by_phase=_made_by(phase, index)
        )
    yield from _invalid_in_partitions(conn, both.info)
    for old, new in by_name.items():
        if old != new:
            declared = new in phase and phase[new].renamed_from == old
            yield kinds.renamed_index(on, new, old, by_phase=declared)
    for index in changed:
        if index not in by_name:
            yield _changed_index(on, models[index], found[index])
    for index in missing:
        if index not in by_name.values() and index not in changed and index not in invalid:
            yield kinds.missing_index(
                on,
                index,
                _told(models[index]),
                _create(on, models[index]),
                by_phase=index in phase and _builds(phase[index], models[index]),
                unique=models[index].unique,
            )
    for index in surplus:
        if index not in by_name and index not in changed and index not in aside:
            yield kinds.surplus_index(
                on, index, found[index].definition, by_phase=_made_by(phase, index)
            )


def _builds(ours: Index, model: Any) -> bool:
    """Whether what the phase builds under a name is what the models have under it."""
    options = model.dialect_options["postgresql"]
    include = tuple(getattr(c, "name", c) for c in options.get("include") or ())
    return (
        not model.unique
        and ours.method == (options.get("using") or "btree").lower()
        and ours.columns == _column_names(model)
        and len(ours.columns) == len(model.expressions)
        and ours.include == include
        and bool(ours.where) == (options.get("where") is not None)
    )


def _made_by(phase: Mapping[str, Any], index: str) -> bool:
    return index in phase or index in {i.renamed_from for i in phase.values()}


def _same_indexes(
    both: Both, models: Mapping[str, Any], missing: Iterable[str], surplus: Iterable[str]
) -> dict[str, str]:
    """Which surplus index is which missing one, as {surplus: missing}: of the same definition, the
    columns under either of their names. One of the same name first."""
    same: dict[str, str] = {}
    pairs = [(old, new) for new in missing for old in surplus]
    for old, new in sorted(pairs, key=lambda pair: (pair[0] != pair[1], pair)):
        if old in same or new in same.values():
            continue
        if _same_index(both, both.info.indexes[old], models[new]):
            same[old] = new
    return same


def _same_index(both: Both, found: IndexInfo, model: Any) -> bool:
    if found.unique != bool(model.unique) or found.plain != _is_plain(model):
        return False
    if found.plain:
        return _in_models(both, found.columns) == _column_names(model)
    return _essence(found.definition, both.aliases) == _essence(_ddl(model), {})


_CASTS = re.compile(
    r"::(character varying|double precision|time(stamp)? with(out)? time zone|[\w.]+)"
    r"(\(\d+(,\d+)?\))?(\[\])*"
)


def _essence(definition: str, aliases: Mapping[str, str]) -> str:
    """What an index with expressions is on, without what PostgreSQL adds when it spells that out:
    casts, parentheses, the usual method."""
    told = _CASTS.sub("", definition.split(" ON ", 1)[1].replace(" USING btree", ""))
    for old, new in aliases.items():
        told = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _, new=new: new, told)  # type: ignore[misc]
    return re.sub(r'[\s()"]', "", told).casefold()


def _is_plain(model: Any) -> bool:
    """Whether the models' index is a whole B-tree on columns, in their usual order."""
    options = model.dialect_options["postgresql"]
    special = any(options.get(key) for key in ("where", "include"))
    other = options.get("using") not in (None, False, "", "btree")
    return not special and not other and len(_column_names(model)) == len(model.expressions)


def _alike(both: Both, found: IndexInfo, model: Any) -> bool:
    """Whether an index found can be the models' one of that name, as far as Alembic does not tell:
    by its method, by the columns that it includes, and by having a condition or none."""
    if found.plain or _is_plain(model):
        return found.plain == _is_plain(model)
    options = model.dialect_options["postgresql"]
    include = tuple(getattr(c, "name", c) for c in options.get("include") or ())
    return (
        found.method == (options.get("using") or "btree").lower()
        and _in_models(both, found.include) == include
        and bool(found.predicate) == (options.get("where") is not None)
    )


def _column_names(model: Any) -> tuple[str, ...]:
    """The columns of the models' index; expressions left out."""
    from sqlalchemy import Column

    return tuple(e.name for e in model.expressions if isinstance(e, Column))


def _create(on: Table, model: Any) -> str:
    """The statement that builds the models' index without blocking writers."""
    if _is_plain(model):
        query = SQL("CREATE {}INDEX CONCURRENTLY {} ON {} ({})").format(
            SQL("UNIQUE " if model.unique else ""),
            name(str(model.name)),
            table(on),
            comma(name(c) for c in _column_names(model)),
        )
        return render(query)
    return _ddl(model).replace("INDEX ", "INDEX CONCURRENTLY ", 1)


def _told(model: Any) -> str:
    """What comes after the table's name when the models' index is built."""
    if _is_plain(model):
        return f"({', '.join(_column_names(model))})"
    return re.split(r" (?=USING |\()", _ddl(model), maxsplit=1)[-1]


def _ddl(model: Any) -> str:
    from sqlalchemy.dialects.postgresql.base import PGDialect
    from sqlalchemy.schema import CreateIndex

    dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
    return str(CreateIndex(model).compile(dialect=dialect)).strip()


def _changed_index(on: Table, model: Any, found: IndexInfo) -> dict[str, Any]:
    drop = render(SQL("DROP INDEX CONCURRENTLY {}").format(name(on.schema, str(model.name))))
    expected = f"{'UNIQUE ' if model.unique else ''}{_told(model)}"
    return kinds.changed_index(
        on,
        str(model.name),
        found.definition,
        expected,
        [drop, _create(on, model)],
        unique=bool(model.unique) and not found.unique,
    )


def _invalid_in_partitions(conn: Connection, info: TableInfo) -> list[dict[str, Any]]:
    """INVALID indexes of single partitions: SQLAlchemy looks at the whole table only."""
    if not info.partitioned:
        return []
    return [
        kinds.invalid_index(leaf.table, index, modelled=False, by_phase=False)
        for leaf in info.leaves
        for index, found in catalog.inspect(conn, leaf.table, catalog.READABLE).indexes.items()
        if not found.valid
    ]


def constraint_differences(
    conn: Connection,
    both: Both,
    renamed: Mapping[Table, Mapping[str, str]],
    told: Collection[Key],
) -> Iterator[dict[str, Any]]:
    """What differs in the primary, unique and foreign keys of a table. renamed has the new names
    of every table's columns, by the old ones; told the unique keys of which something is said
    already."""
    found = _in_models(both, _primary_key(conn, both.info))
    expected = [c.name for c in both.model.primary_key.columns]
    if set(found) != set(expected):
        yield kinds.primary_key(both.table, found, expected)
    yield from _unique_keys(both, told)
    yield from _foreign_keys(both, renamed)


def _unique_keys(both: Both, told: Collection[Key]) -> Iterator[dict[str, Any]]:
    on, changes = both.table, both.changes
    surplus = {k.name: _in_models(both, k.columns) for k in changes.surplus_unique if k not in told}
    for key in changes.missing_unique:
        if key in told:
            continue
        same = next((n for n, columns in surplus.items() if columns == key.columns), None)
        if same is None:
            yield kinds.missing_unique(on, key.name, key.columns)
            continue
        del surplus[same]
        if key.name and same != key.name:
            sides = f"constraint {same}", f"constraint {key.name}"
            yield kinds.renamed_unique(on, key.columns, *sides)
    for constraint, columns in surplus.items():
        yield kinds.surplus_unique(on, constraint, columns)


def _primary_key(conn: Connection, info: TableInfo) -> list[str]:
    rows = conn.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid"
        " AND a.attnum = ANY (i.indkey::int2[]) WHERE i.indrelid = %s::oid AND i.indisprimary"
        " ORDER BY array_position(i.indkey::int2[], a.attnum)",
        (info.oid,),
    )
    return [row["attname"] for row in rows]


def _foreign_keys(
    both: Both, renamed: Mapping[Table, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    on = both.table
    surplus = [_under_new_names(key, both.aliases, renamed) for key in both.changes.surplus_keys]
    for key in both.changes.missing_keys:
        same = next(
            (k for k in surplus if (k.columns, k.target) == (key.columns, key.target)), None
        )
        if same:
            surplus.remove(same)
            if same.options != key.options:
                told = _reference(same), _reference(key)
                yield kinds.changed_foreign_key(on, same.name, key.columns, *told)
        elif key.target:
            yield kinds.missing_foreign_key(
                on, key.name, key.columns, key.target, _reference(key), key.options
            )
    for key in surplus:
        yield kinds.surplus_foreign_key(on, key.name, key.columns, _reference(key))


def _under_new_names(
    key: Key, aliases: Mapping[str, str], renamed: Mapping[Table, Mapping[str, str]]
) -> Key:
    columns = tuple(aliases.get(c, c) for c in key.columns)
    if key.target is None:
        return replace(key, columns=columns)
    table_, theirs = key.target
    there = renamed.get(table_, {})
    return replace(key, columns=columns, target=(table_, tuple(there.get(c, c) for c in theirs)))


def _reference(key: Key) -> str:
    to, columns = key.target or ("", ())
    return " ".join([f"{to} ({', '.join(columns)})", *key.options])
