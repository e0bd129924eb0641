# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the phase's indexes can be built: on columns that will be there, by a method that takes
them, with a condition that an index can have, under a name that is free. Only reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..catalog import TableInfo, find_relation, type_limits
from ..core.connection import Connection, one
from ..core.errors import RunbookError, require_none
from ..core.obstacles import Obstacles
from ..core.spec import Index, Spec, Table
from . import index_plan, index_predicate


def require_buildable(conn: Connection, spec: Spec, info: TableInfo) -> None:
    """Raise RunbookError with the indexes that cannot be built: a column of theirs will not be
    there after the renames, PostgreSQL builds no such index, or the name is taken."""
    types = index_plan.types_afterwards(spec, info)
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
    index_plan.plan(conn, spec, info)


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
WITH asked AS (SELECT to_regtype(%(type)s)::oid AS oid)
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
) OR NOT EXISTS (SELECT FROM asked JOIN pg_type y USING (oid)) AS there
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
        if not _has_class(conn, index.method, type_limits.base_type(conn, types[column])):
            why.append(
                f"column {column!r} is {types[column]}, which has no usual operator class for it. "
                "Next step: choose another method, or another column"
            )
    require_none(f"{said}: {each} in phase_indexes." for each in why)


def _has_class(conn: Connection, method: str, of: str) -> bool:
    """Whether a method takes a type that is no domain. A B-tree takes arrays and composite types
    only of what has an order itself, which the server knows that plans to sort them."""
    if method == "btree" and not type_limits.has_order(conn, of):
        return False
    return bool(one(conn, _HAS_CLASS, {"type": of, "method": method})["there"])


def _require_free(conn: Connection, spec: Spec, index: Index) -> None:
    found = find_relation(conn, Table(spec.table.schema, index.name))
    if found is None:
        return
    row = one(
        conn,
        "SELECT pg_describe_object('pg_class'::regclass, %(oid)s::oid, 0) AS what,"
        " (SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = %(oid)s::oid) AS of",
        {"oid": found.oid},
    )
    of = f" of {row['of']}" if row["of"] else ""
    raise RunbookError(
        f"The name {index.name!r} is taken in schema {spec.table.schema} by {row['what']}{of}. "
        "Next step: give the index another name in phase_indexes."
    )
