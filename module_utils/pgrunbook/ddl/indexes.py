# SPDX-License-Identifier: GPL-3.0-or-later
"""Rename, build and take back indexes without ever blocking a writer for long."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg.sql import SQL, Composed

from .. import catalog, ledger
from ..catalog import IndexInfo, TableInfo, conversion, surroundings
from ..core.connection import Connection, one
from ..core.errors import RunbookError, require_none
from ..core.locks import patient, with_lock_retries
from ..core.obstacles import Obstacles
from ..core.spec import Index, Spec, Table
from ..core.sql import name, rename_index, render
from ..core.window import require_open_window
from . import index_parts, index_predicate, outcome
from .index_parts import Part

RENAME_LOCK = "SHARE UPDATE EXCLUSIVE on the index, for the catalog change only"
DROP_LOCK = "SHARE UPDATE EXCLUSIVE: reads and writes go on"
BUILD_LOCK = "SHARE UPDATE EXCLUSIVE: reads and writes go on, other DDL and VACUUM wait"


def build_lock(info: TableInfo) -> str:
    """What a build locks, for the plan."""
    return index_parts.LOCK if info.partitioned else BUILD_LOCK


def undo_lock(info: TableInfo) -> str:
    """What taking indexes back locks, for the plan."""
    return index_parts.DROP_LOCK if info.partitioned else BUILD_LOCK


@dataclass(frozen=True)
class Action:
    """One thing to do to an index: kind is "rename", "drop_invalid", "defer" (drop it for the
    backfill, to be built again after it) or "build", on a partitioned table in parts."""

    kind: str
    index: Index
    old: str
    statements: tuple[Composed, ...]
    parts: tuple[Part, ...] = ()


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


def require_buildable(conn: Connection, spec: Spec, info: TableInfo) -> None:
    """Raise RunbookError with the indexes that are on a column that the table will not have after
    the renames, that PostgreSQL does not build, or whose name something else in the schema bears.
    """
    types = _types_afterwards(spec, info)
    obstacles = Obstacles(conn)
    for index in spec.indexes:
        obstacles.checked(_require_columns, spec, index, types)
        if index.name not in info.indexes:
            obstacles.checked(_require_free, conn, spec, index)
    obstacles.require_none()
    for index in spec.indexes:
        obstacles.checked(_require_method, conn, spec, index, types)
        if index.where:
            obstacles.checked(index_predicate.require_sound, conn, spec, types, index)
    obstacles.require_none()
    plan(conn, spec, info)


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


def undo_statement(on: Table, action: Action) -> str:
    """The statements that take an action back."""
    if action.parts:
        return index_parts.undo(on, action.index, action.parts)
    if action.kind == "rename":
        return render(rename_index(on, action.index.name, action.old))
    if action.kind == "defer":
        return render(index_parts.create(on, action.index))
    return render(_drop(on, action.index.name))


def apply(
    conn: Connection,
    spec: Spec,
    kinds: set[str],
    run: ledger.Run,
    *,
    deferred: Collection[str],
    dry: bool,
) -> dict[str, Any]:
    """Do the planned actions of these kinds; when dry, only tell what would be done.

    deferred has the names of the indexes to be dropped for the backfill, or when dry to be built
    after it as well.
    """
    info = catalog.inspect(conn, spec.table)
    planned = plan(conn, spec, info, deferred if dry or "defer" in kinds else ())
    actions = [a for a in planned if a.kind in kinds]
    if actions and not dry:
        require_open_window(spec)
        approved = ledger.approved_plan(conn, run, "plan")
        ledger.require_statements(approved, run, [render(s) for a in actions for s in a.statements])
        if any(action.kind != "build" for action in actions):
            surroundings.require_unchanged(conn, spec, info, approved)
        for action in actions:
            if action.parts:
                index_parts.build(conn, spec, info, run, action.index, list(action.parts))
            else:
                _do(conn, spec, info, run, action)
    foreseen = {n: i.definition for n, i in info.indexes.items()}
    for action in actions:
        foreseen.pop(action.old, None)
        if action.kind in ("rename", "build"):
            foreseen[action.index.name] = _definition(spec.table, info, action.index)
    statements = [render(s) for a in actions for s in a.statements]
    return _result(conn, spec, info, foreseen, statements, dry=dry)


def revert(conn: Connection, spec: Spec, run: ledger.Run, *, dry: bool) -> dict[str, Any]:
    """Take back what this run did to indexes: drop what it built, build what it dropped, and
    rename what it renamed."""
    info = catalog.inspect(conn, spec.table)
    foreseen = {n: i.definition for n, i in info.indexes.items()}
    statements = []
    for undo in _undos(conn, spec, info, run):
        foreseen.pop(undo.change["new"], None)
        if undo.statement:
            statements.append(render(undo.statement))
        if undo.definition:
            foreseen[undo.change["old"] or undo.change["new"]] = undo.definition
        if not dry:
            ledger.require_owner(conn, run)
            _undo(conn, spec, info, run, undo)
    for left in index_parts.rest(conn, run.id):
        statements += [render(s) for s in left.statements]
        if not dry:
            ledger.require_owner(conn, run)
            index_parts.take_rest_back(conn, run.id, left)
    return _result(conn, spec, info, foreseen, statements, dry=dry)


@dataclass(frozen=True)
class _Undo:
    """How to take a change of the ledger back: no statement where nothing has to be done, and the
    definition that is there afterwards, if one is."""

    change: dict[str, Any]
    statement: Composed | None
    definition: str
    left_over: bool = False


def _undos(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run) -> list[_Undo]:
    deferred = ledger.list_changes(conn, run.id, "index_defer")
    built = [
        change
        for kind in (ledger.INDEX_TRIAL, ledger.INDEX_KEPT, "index_build")
        for change in ledger.list_changes(conn, run.id, kind)
    ]
    renamed = ledger.list_changes(conn, run.id, "index_rename")
    dropped = {change["new"] for change in deferred}
    there = {n: i.definition for n, i in info.indexes.items() if i.valid}
    drop = index_parts.drop if info.partitioned else _drop
    undos = [
        _Undo(c, drop(spec.table, c["new"]), "")
        for c in built
        if c["new"] in info.indexes and c["new"] not in dropped
    ]
    undos += [_Undo(c, None, there[c["new"]]) for c in built if c["new"] in dropped & there.keys()]
    for change in deferred:
        (index,) = [i for i in spec.indexes if i.name == change["new"]]
        statement = None if index.name in there else index_parts.create(spec.table, index)
        definition = there.get(index.name, _definition(spec.table, info, index))
        undos.append(_Undo(change, statement, definition, index.name in info.indexes))
    for change in renamed:
        if change["new"] in info.indexes or change["new"] in dropped:
            new = next((u.definition for u in undos if u.change["new"] == change["new"]), "")
            definition = (new or there.get(change["new"], "")).replace(
                change["new"], change["old"], 1
            )
            query = rename_index(spec.table, change["new"], change["old"])
            undos.append(_Undo(change, query, definition))
    return undos


@dataclass(frozen=True)
class _Wanted:
    """The table as it is after the conversions, and how the server spells the conditions that its
    indexes are to have and those that they have; taken is what bears a name where a partition's
    index will be."""

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
            types = _types_afterwards(spec, info)
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
    info = wanted.info

    def same(found: IndexInfo) -> bool:
        return _same(spec, index, found, wanted.conditions.get(index.name, ""))

    old = info.indexes.get(index.renamed_from or "")
    new = info.indexes.get(index.name)
    if new and not same(new) and (new.valid or info.partitioned):
        raise RunbookError(
            f"Index {index.name!r} of {spec.table} is there, but as: {new.definition}. The phase "
            f"wants it {_described(index)}. Next step: rename or drop that index by "
            "hand, or correct phase_indexes."
        )
    old_name = index.renamed_from or ""
    if new is None and old and old.valid and same(old):
        rename = Action(
            "rename", index, old_name, (rename_index(spec.table, old_name, index.name),)
        )
        return [rename, *_postponed(spec, index, deferred)]
    if new and new.valid:
        return _postponed(spec, index, deferred)
    if info.partitioned:
        if old and not old.valid:
            raise RunbookError(
                f"Index {old_name!r} of {spec.table} is INVALID, and dropping it would drop its "
                f"parts. Next step: attach what is missing to it, or drop it by hand; then run "
                "again."
            )
        parts = tuple(index_parts.plan(conn, spec, index, info, wanted.taken, same))
        return [Action("build", index, "", tuple(part.statement for part in parts), parts)]
    build = Action("build", index, "", (index_parts.create(spec.table, index),))
    for there, found in ((index.name, new), (old_name, old)):
        if found and not found.valid:
            return [Action("drop_invalid", index, there, (_drop(spec.table, there),)), build]
    return [build]


def _postponed(spec: Spec, index: Index, deferred: Collection[str]) -> list[Action]:
    """What is done to an index that is there: nothing, unless it is deferred."""
    if index.name not in deferred:
        return []
    return [
        Action("defer", index, index.name, (_drop(spec.table, index.name),)),
        Action("build", index, "", (index_parts.create(spec.table, index),)),
    ]


def _types_afterwards(spec: Spec, info: TableInfo) -> dict[str, str]:
    """The table's columns after the renames and conversions, in their order, with their types."""
    right = {c.renamed_from: c.name for c in spec.columns if c.name not in info.columns}
    return {right.get(c, c): of for c, of in conversion.foreseen(spec, info).types.items()}


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


def _require_columns(spec: Spec, index: Index, columns: Collection[str]) -> None:
    require_none(
        f"Index {index.name!r} is to be on {column!r}, which {spec.table} does not "
        "have after the rename. Next step: correct phase_indexes."
        for column in (*index.columns, *index.include)
        if column not in columns
    )


# Whether a type has a usual operator class for a method, as GetDefaultOpClass() finds one: for
# the type itself, for one that its values are stored like, or for any array, enum or the like.
_HAS_CLASS = """
WITH asked AS (
    SELECT coalesce(nullif(y.typbasetype, 0), y.oid) AS oid FROM pg_type y
    WHERE y.oid = to_regtype(%(type)s)
)
SELECT EXISTS (
    SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod, asked JOIN pg_type y USING (oid)
    WHERE m.amname = %(method)s AND o.opcdefault AND (o.opcintype = y.oid
        OR EXISTS (SELECT FROM pg_cast t WHERE t.castsource = y.oid AND t.casttarget = o.opcintype
            AND t.castmethod = 'b' AND t.castcontext = 'i')
        OR o.opcintype = CASE y.typtype WHEN 'e' THEN 'anyenum'::regtype
            WHEN 'r' THEN 'anyrange'::regtype WHEN 'm' THEN 'anymultirange'::regtype
            WHEN 'c' THEN 'record'::regtype ELSE NULL END
        OR (o.opcintype = 'anyarray'::regtype
            AND (y.typcategory = 'A' OR y.typname IN ('int2vector', 'oidvector'))))
) OR NOT EXISTS (SELECT FROM asked JOIN pg_type y USING (oid) WHERE y.typtype <> 'd') AS there
"""


def _require_method(conn: Connection, spec: Spec, index: Index, types: Mapping[str, str]) -> None:
    """Raise RunbookError where the method does not take the index's columns."""
    able = one(
        conn,
        "SELECT pg_indexam_has_property(oid, 'can_include') AS include,"
        " pg_indexam_has_property(oid, 'can_multi_col') AS several"
        " FROM pg_am WHERE amname = %s",
        (index.method,),
    )
    said = f"Index {index.name!r} of {spec.table} cannot be built by {index.method}"
    why = []
    if index.include and not able["include"]:
        why.append("that method includes no other columns. Next step: take include out")
    if len(index.columns) > 1 and not able["several"]:
        why.append("that method takes one column only. Next step: name one")
    for column in index.columns:
        asked = {"type": types[column], "method": index.method}
        if not one(conn, _HAS_CLASS, asked)["there"]:
            why.append(
                f"column {column!r} is {types[column]}, which has no usual operator class for it. "
                "Next step: choose another method, or another column"
            )
    require_none(f"{said}: {each} in phase_indexes." for each in why)


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


def _require_free(conn: Connection, spec: Spec, index: Index) -> None:
    row = conn.execute(
        "SELECT pg_describe_object('pg_class'::regclass, c.oid, 0) AS what,"
        " i.indrelid::regclass::text AS of"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_index i ON i.indexrelid = c.oid"
        " WHERE n.nspname = %s AND c.relname = %s",
        (spec.table.schema, index.name),
    ).fetchone()
    if row:
        of = f" of {row['of']}" if row["of"] else ""
        raise RunbookError(
            f"The name {index.name!r} is taken in schema {spec.table.schema} by {row['what']}{of}. "
            "Next step: give the index another name in phase_indexes."
        )


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


def _do(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, action: Action) -> None:
    (statement,) = action.statements

    def rename() -> None:
        with conn.transaction():
            conn.execute(statement, ())
            ledger.change_made(conn, run.id, "index_rename", old=action.old, new=action.index.name)

    def build() -> None:
        ledger.change_made(conn, run.id, "index_build", old="", new=action.index.name)
        try:
            _patiently(conn, statement)
        except BaseException:
            if not conn.closed:
                left = catalog.inspect(conn, spec.table).indexes.get(action.index.name)
                if left and not left.valid:
                    _patiently(conn, _drop(spec.table, action.index.name))
                ledger.change_undone(conn, run.id, "index_build", old="", new=action.index.name)
            raise

    def drop() -> None:
        _patiently(conn, statement)

    def defer() -> None:
        ledger.change_made(conn, run.id, "index_defer", old="", new=action.index.name)
        _patiently(conn, statement)

    work = {"rename": rename, "build": build, "drop_invalid": drop, "defer": defer}[action.kind]
    with_lock_retries(
        conn,
        work,
        table_oid=info.oid,
        what=render(statement),
        tries=spec.lock_tries if action.kind == "rename" else 2,
    )


def _undo(conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, undo: _Undo) -> None:
    kind, old, new = undo.change["kind"], undo.change["old"], undo.change["new"]

    def in_one_transaction() -> None:
        with conn.transaction():
            if undo.statement:
                conn.execute(undo.statement, ())
            if info.partitioned:
                index_parts.undone(conn, run.id)
            ledger.change_undone(conn, run.id, kind, old=old, new=new)

    def concurrently() -> None:
        if kind == "index_defer" and undo.left_over:
            _patiently(conn, _drop(spec.table, new))
        if undo.statement:
            _patiently(conn, undo.statement)
        ledger.change_undone(conn, run.id, kind, old=old, new=new)

    waits = undo.statement and kind != "index_rename" and not info.partitioned
    with_lock_retries(
        conn,
        concurrently if waits else in_one_transaction,
        table_oid=info.oid,
        what=render(undo.statement) if undo.statement else new,
        tries=spec.lock_tries,
    )


def _patiently(conn: Connection, statement: Composed) -> None:
    with patient(conn) as other:
        other.execute(statement, ())


def _drop(on: Table, index: str) -> Composed:
    return SQL("DROP INDEX CONCURRENTLY {}").format(name(on.schema, index))


def _described(index: Index) -> str:
    """What an index is on, for a message."""
    method = "" if index.method == "btree" else f"by {index.method} "
    include = f" including {', '.join(index.include)}" if index.include else ""
    where = f" where {index.where}" if index.where else ""
    return f"{method}on ({', '.join(index.columns)}){include}{where}"


def _definition(on: Table, info: TableInfo, index: Index) -> str:
    """How a dry run shows an index that is not there yet, in the manner of pg_get_indexdef()."""
    only = "ONLY " if info.partitioned else ""
    include = f" INCLUDE ({', '.join(index.include)})" if index.include else ""
    where = f" WHERE ({index.where})" if index.where else ""
    columns = f"({', '.join(index.columns)}){include}{where}"
    return f"CREATE INDEX {index.name} ON {only}{on} USING {index.method} {columns}"


def _result(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    foreseen: dict[str, str],
    queries: list[str],
    *,
    dry: bool,
) -> dict[str, Any]:
    after = (
        {**info.schema(), "indexes": dict(sorted(foreseen.items()))}
        if dry
        else catalog.inspect(conn, spec.table).schema()
    )
    return outcome.schema_change(spec.table, "indexes", info, after, queries)
