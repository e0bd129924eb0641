# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done to the phase's indexes: each action with its statements and its undo. Only
reads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, get_args

from psycopg.sql import SQL, Composed

from .. import catalog
from ..catalog import IndexInfo, TableInfo, conversion
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.spec import Index, Spec, Table
from ..core.sql import rename_index, render
from . import index_parts, index_predicate
from .index_parts import Part
from .index_sql import create, described, drop

Kind = Literal["rename", "drop_invalid", "defer", "build"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Action:
    """One thing to do to an index: rename it, drop an invalid one, defer it (drop it for the
    backfill, and build it again after it) or build it, on a partitioned table in parts. old is its
    name before."""

    kind: Kind
    index: Index
    old: str
    statements: tuple[SQL | Composed, ...]
    undo: tuple[SQL | Composed, ...]
    parts: tuple[Part, ...] = ()

    @property
    def queries(self) -> list[str]:
        """The statements as the plan holds them."""
        return [render(statement) for statement in self.statements]


def plan(
    conn: Connection, spec: Spec, info: TableInfo, deferred: Collection[str] = ()
) -> list[Action]:
    """What is to be done to the phase's indexes, in order of the indexes; those whose name is in
    deferred are dropped and built again.

    Raises RunbookError where an index of the wanted name has another definition, or a condition is
    wrong.
    """
    wanted = _Wanted.of(conn, spec, info)
    return [a for index in spec.indexes for a in _plan_one(conn, spec, index, wanted, deferred)]


def afterwards(
    conn: Connection, spec: Spec, info: TableInfo, gone: Collection[str] = ()
) -> TableInfo:
    """The table as the run will leave it: columns under their right names, the phase's indexes
    there, those in gone not."""
    replaced = {*gone, *(action.old for action in plan(conn, spec, info))}
    info = conversion.foreseen(spec, info)
    right = {c.renamed_from: c.name for c in spec.columns if c.renamed_from}
    present = {
        found: replace(index, columns=tuple(right.get(c, c) for c in index.columns))
        for found, index in info.indexes.items()
        if found not in replaced
    }
    wanted = {index.name: _made(index) for index in spec.indexes}
    columns = {right.get(found, found): column for found, column in info.columns.items()}
    return replace(info, columns=columns, indexes={**present, **wanted})


def _made(index: Index) -> IndexInfo:
    """An index of the phase as the catalog will have it."""
    plain = index.method == "btree" and not (index.include or index.where)
    columns = (*index.columns, *index.include)
    return IndexInfo(
        columns,
        valid=True,
        unique=False,
        plain=plain,
        replaceable=True,
        definition="",
        included=len(index.include),
        method=index.method,
        predicate=index.where,
    )


def types_afterwards(spec: Spec, info: TableInfo) -> dict[str, str]:
    """The table's columns after the renames and conversions, in their order, with their types."""
    right = {c.renamed_from: c.name for c in spec.columns if c.name not in info.columns}
    return {right.get(c, c): of for c, of in conversion.foreseen(spec, info).types.items()}


@dataclass(frozen=True)
class _Wanted:
    """The table as it is after the conversions. conditions has, by the index, the condition that
    the phase wants, as the server spells it. taken has the names in use where indexes of partitions
    will be."""

    info: TableInfo
    conditions: dict[str, str]
    taken: set[tuple[str, str]]

    @classmethod
    def of(cls, conn: Connection, spec: Spec, info: TableInfo) -> _Wanted:
        if spec.indexes:
            info = catalog.with_partitions(conn, info)
        partial = [index for index in spec.indexes if index.where]
        conditions = {}
        if partial:
            types = types_afterwards(spec, info)
            for index in partial:
                index_predicate.require_sound(conn, spec, types, index)
                said = index_predicate.spelled(conn, spec.table, types, index.where)
                conditions[index.name] = said
            info = index_predicate.with_spelling(conn, spec.table, info)
        taken = _taken(conn, spec, info) if info.partitioned else set()
        return cls(conversion.foreseen(spec, info), conditions, taken)


def _plan_one(
    conn: Connection, spec: Spec, index: Index, wanted: _Wanted, deferred: Collection[str]
) -> list[Action]:
    on, info = spec.table, wanted.info

    def same(found: IndexInfo) -> bool:
        return _same(spec, index, found, wanted.conditions.get(index.name, ""))

    old_name = index.renamed_from or ""
    old, new = info.indexes.get(old_name), info.indexes.get(index.name)
    if new and not same(new) and (new.valid or info.partitioned):
        raise _another(on, index, new)
    if new is None and old and old.valid and same(old):
        return [_rename(on, index, old_name), *_postponed(on, index, deferred)]
    if new and new.valid:
        return _postponed(on, index, deferred)
    if info.partitioned:
        if old and not old.valid:
            raise _invalid(on, old_name)
        parts = index_parts.plan(conn, spec, index, info, wanted.taken, same)
        return [_build_parts(on, index, tuple(parts))]
    for there, found in ((index.name, new), (old_name, old)):
        if found and not found.valid:
            return [_drop_invalid(on, index, there), _build(on, index)]
    return [_build(on, index)]


def _postponed(on: Table, index: Index, deferred: Collection[str]) -> list[Action]:
    """What is done to an index that is there: nothing, unless it is deferred."""
    return [_defer(on, index), _build(on, index)] if index.name in deferred else []


def _rename(on: Table, index: Index, old: str) -> Action:
    there, back = rename_index(on, old, index.name), rename_index(on, index.name, old)
    return Action("rename", index, old, (there,), (back,))


def _drop_invalid(on: Table, index: Index, old: str) -> Action:
    """Nobody wants an INVALID index back: the undo is that of the build that follows."""
    return Action("drop_invalid", index, old, (drop(on, old),), (drop(on, index.name),))


def _defer(on: Table, index: Index) -> Action:
    return Action("defer", index, index.name, (drop(on, index.name),), (create(on, index),))


def _build(on: Table, index: Index) -> Action:
    return Action("build", index, "", (create(on, index),), (drop(on, index.name),))


def _build_parts(on: Table, index: Index, parts: tuple[Part, ...]) -> Action:
    statements = tuple(part.statement for part in parts)
    return Action("build", index, "", statements, index_parts.undo(on, index, parts), parts)


def _another(on: Table, index: Index, found: IndexInfo) -> RunbookError:
    return RunbookError(
        f"Index {index.name!r} of {on} is there, but as: {found.definition}. The phase "
        f"wants it {described(index)}. Next step: rename or drop that index by "
        "hand, or correct phase_indexes."
    )


def _invalid(on: Table, old: str) -> RunbookError:
    return RunbookError(
        f"Index {old!r} of {on} is INVALID, and dropping it would drop its parts. Next step: "
        "attach what is missing to it, or drop it by hand; then run again."
    )


def _taken(conn: Connection, spec: Spec, info: TableInfo) -> set[tuple[str, str]]:
    """Every name in the schemas of the partitions, and those that the phase's indexes will have."""
    schemas = sorted({partition.table.schema for partition in info.partitions})
    rows = conn.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = ANY (%s)",
        (schemas,),
    )
    taken = {(row["nspname"], row["relname"]) for row in rows}
    return taken | {(spec.table.schema, index.name) for index in spec.indexes}


def _same(spec: Spec, index: Index, found: IndexInfo, condition: str) -> bool:
    """Whether an index found is the one wanted, its columns under either of their names; condition
    is the server's spelling of the one wanted."""
    aliases = {c.renamed_from: c.name for c in spec.columns if c.renamed_from}
    columns = tuple(aliases.get(c, c) for c in found.columns)
    return (
        found.usual
        and (found.method, found.included) == (index.method, len(index.include))
        and columns == (*index.columns, *index.include)
        and found.predicate == condition
    )
