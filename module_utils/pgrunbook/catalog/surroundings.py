# SPDX-License-Identifier: GPL-3.0-or-later
"""What decides which values a run stores, besides the SQL of the plan: triggers, rules, policies,
column defaults, constraints, and the views and functions that the source uses. Only reads.

An approval covers all of it. PostgreSQL keeps what it has parsed as a tree that names columns by
number, so these trees, and their hashes, are the same before and after the run's own renames and
conversions.

What an expression uses, or the text of a function's body, PostgreSQL does not tell without
executing it. So names count instead: every function, view and table with rules whose name stands
anywhere in such a text, in whatever schema, and every operator of a schema whose name stands there.
This takes in too much, namely what has such a name by chance. An approval may be void once too
often; no change slips through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.connection import Connection, one, rows_as
from ..core.errors import RunbookError
from ..core.spec import Spec
from ..core.sql import words
from . import columns, conversion, trust, types
from .dependents import FIRST_OID_OF_USERS
from .relations import READABLE, require_relation
from .tables import TableInfo

MAX_NAMED = 5  # differences that a message names


def _hash(of: str) -> str:
    """SQL for half of the SHA-256 of a value as text."""
    return f"left(encode(sha256(convert_to(({of})::text, 'UTF8')), 'hex'), 32)"


def _functions_of(catalog_name: str, oid: str) -> str:
    """SQL for the functions that an object uses, directly or as operators."""
    return f"""ARRAY(
    SELECT CASE WHEN d.refclassid = 'pg_proc'::regclass THEN d.refobjid ELSE o.oprcode::oid END
    FROM pg_depend d LEFT JOIN pg_operator o
        ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    WHERE d.classid = '{catalog_name}'::regclass AND d.objid = {oid}
    AND (d.refclassid = 'pg_proc'::regclass OR o.oid IS NOT NULL))"""


def _relations_of(catalog_name: str, oid: str) -> str:
    """SQL for the relations that an object reads or writes."""
    return f"""ARRAY(
    SELECT DISTINCT d.refobjid::int8 FROM pg_depend d
    WHERE d.classid = '{catalog_name}'::regclass AND d.objid = {oid}
    AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= %(first)s::oid)"""


_NOT_OF_EXTENSION = """NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {0}.oid
    AND e.classid = {0}.tableoid AND e.deptype = 'e')"""

_RELATION = _hash(
    "jsonb_build_array(c.oid, c.relkind, c.relrowsecurity, c.relforcerowsecurity,"
    " CASE WHEN c.relkind = 'v' THEN c.reloptions END, (SELECT w.ev_action::text"
    " FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.rulename = '_RETURN'))"
)

# tree: the table and its partitions; source: what is read, views down to their tables.
_OBJECTS = f"""
WITH RECURSIVE tree AS (
    SELECT %(table)s::oid AS oid UNION SELECT relid FROM pg_partition_tree(%(table)s::oid)
), source AS (
    SELECT %(source)s::oid AS oid WHERE %(source)s::oid IS NOT NULL
    UNION
    SELECT d.refobjid FROM source s
    JOIN pg_rewrite w ON w.ev_class = s.oid AND w.rulename = '_RETURN'
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= %(first)s::oid
), relations AS (SELECT oid FROM tree UNION SELECT oid FROM source
), types AS (
    SELECT y.oid FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
    WHERE n.nspname = ANY (%(schemas)s::text[]) AND y.typtype = 'd'
), found AS (
    SELECT c.tableoid AS class, c.oid, {_RELATION} AS hash,
        coalesce((SELECT {_functions_of("pg_rewrite", "w.oid")} FROM pg_rewrite w
            WHERE w.ev_class = c.oid AND w.rulename = '_RETURN'), '{{}}') AS functions
    FROM pg_class c JOIN relations USING (oid)
    UNION ALL
    SELECT w.tableoid, w.oid, {_hash("to_jsonb(w) - 'oid'")}, {_functions_of("pg_rewrite", "w.oid")}
    FROM pg_rewrite w JOIN tree ON tree.oid = w.ev_class WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT g.tableoid, g.oid, {_hash("to_jsonb(g) - 'oid'")},
        g.tgfoid || {_functions_of("pg_trigger", "g.oid")}
    FROM pg_trigger g JOIN tree ON tree.oid = g.tgrelid WHERE NOT g.tgisinternal
    UNION ALL
    SELECT p.tableoid, p.oid, {_hash("to_jsonb(p) - 'oid'")}, {_functions_of("pg_policy", "p.oid")}
    FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
    UNION ALL
    SELECT k.tableoid, k.oid, {_hash("to_jsonb(k) - ARRAY['oid', 'conindid', 'convalidated']")},
        {_functions_of("pg_constraint", "k.oid")}
    FROM pg_constraint k
    WHERE k.conrelid IN (SELECT oid FROM tree) OR k.contypid IN (SELECT oid FROM types)
    OR %(referring)s AND k.confrelid IN (SELECT oid FROM tree)
    UNION ALL
    SELECT c.tableoid, c.oid, {
    _hash(
        "jsonb_build_array(i.indrelid, i.indisunique, i.indkey, i.indclass, i.indexprs, i.indpred)"
    )
}, {_functions_of("pg_class", "c.oid")}
    FROM pg_index i JOIN tree ON tree.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid
    WHERE (i.indisunique OR i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
    AND c.relname <> ALL (%(indexes)s::text[]) AND NOT EXISTS (
        SELECT FROM pg_partition_ancestors(c.oid) u JOIN pg_class a ON a.oid = u.relid
        WHERE a.relname = ANY (%(indexes)s::text[]))
    UNION ALL
    SELECT o.tableoid, o.oid, {
    _hash("jsonb_build_array(o.oprname, o.oprleft, o.oprright, o.oprcode::oid)")
}, ARRAY[o.oprcode::oid]
    FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE n.nspname = ANY (%(schemas)s::text[]) AND {_NOT_OF_EXTENSION.format("o")}
    UNION ALL
    SELECT t.tableoid, t.oid, {
    _hash("jsonb_build_array(t.castfunc, t.castcontext, t.castmethod)")
}, ARRAY[t.castfunc]
    FROM pg_cast t WHERE t.oid >= %(first)s::oid AND {_NOT_OF_EXTENSION.format("t")}
)
SELECT i.type || ' ' || i.identity AS name, hash, functions, CASE
    WHEN class = 'pg_policy'::regclass THEN {_relations_of("pg_policy", "found.oid")}
    WHEN class = 'pg_rewrite'::regclass THEN {_relations_of("pg_rewrite", "found.oid")}
    ELSE '{{}}' END AS relations
FROM found, LATERAL pg_identify_object(class, oid, 0) i
"""

_COLUMNS = f"""
SELECT a.attrelid::int8 AS of, a.attname AS name, concat_ws(' ', a.atttypid, a.atttypmod,
    CASE WHEN a.attcollation <> (SELECT typcollation FROM pg_type WHERE oid = a.atttypid)
         THEN 'collation ' || a.attcollation END,
    CASE WHEN a.attnotnull THEN 'not null' END, a.attidentity::text || a.attgenerated::text,
    (SELECT {_hash("f.adbin")} FROM pg_attrdef f
     WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum)) AS value,
    coalesce((SELECT {_functions_of("pg_attrdef", "f.oid")} FROM pg_attrdef f
     WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum), '{{}}') AS functions
FROM pg_attribute a
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
"""

_NEW_COLUMN = (
    "SELECT concat_ws(' ', oid, CASE WHEN typtype = 'd' THEN -1 ELSE %s END, '') AS value"
    " FROM pg_type WHERE oid = to_regtype(%s)"
)

# A hash leaves out what has no say: privileges, and the support function, which only the planner
# calls.
_REACHED = f"""
WITH RECURSIVE relation AS (
    SELECT unnest(%(relations)s::oid[]) AS oid
    UNION
    SELECT c.oid FROM pg_class c
    WHERE c.oid >= %(first)s::oid AND c.relname = ANY (%(names)s)
    AND (c.relkind IN ('v', 'm') OR c.relhasrules) AND {_NOT_OF_EXTENSION.format("c")}
    UNION
    SELECT d.refobjid FROM relation r
    JOIN pg_rewrite w ON w.ev_class = r.oid AND w.rulename = '_RETURN'
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= %(first)s::oid
), found AS (
    SELECT c.tableoid AS class, c.oid, {_RELATION} AS hash,
        coalesce((SELECT {_functions_of("pg_rewrite", "w.oid")} FROM pg_rewrite w
            WHERE w.ev_class = c.oid AND w.rulename = '_RETURN'), '{{}}') AS functions,
        '{{}}'::int8[] AS relations, '{{}}'::text[] AS texts
    FROM pg_class c JOIN relation USING (oid)
    UNION ALL
    SELECT w.tableoid, w.oid, {_hash("to_jsonb(w) - 'oid'")},
        {_functions_of("pg_rewrite", "w.oid")}, {_relations_of("pg_rewrite", "w.oid")}, '{{}}'
    FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
    UNION ALL
    SELECT p.tableoid, p.oid, {_hash("to_jsonb(p) - 'oid'")},
        {_functions_of("pg_policy", "p.oid")}, {_relations_of("pg_policy", "p.oid")}, '{{}}'
    FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
    UNION ALL
    SELECT o.tableoid, o.oid, {
    _hash("jsonb_build_array(o.oprname, o.oprleft, o.oprright, o.oprcode::oid)")
}, ARRAY[o.oprcode::oid], '{{}}', '{{}}'
    FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE o.oid >= %(first)s::oid AND n.nspname = ANY (%(names)s)
    AND {_NOT_OF_EXTENSION.format("o")}
    UNION ALL
    SELECT p.tableoid, p.oid, {
    _hash("(to_jsonb(p) - ARRAY['oid', 'proacl', 'prosupport'])::text || coalesce(g.parts, '')")
}, {_functions_of("pg_proc", "p.oid")} || g.functions, {_relations_of("pg_proc", "p.oid")},
        coalesce(p.proconfig, '{{}}') ||
            CASE WHEN l.lanname NOT IN ('c', 'internal') THEN p.prosrc END
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    LEFT JOIN LATERAL (
    SELECT ARRAY[g.aggtransfn::oid, g.aggfinalfn::oid, g.aggcombinefn::oid] AS functions,
        jsonb_build_array(g.aggtransfn::oid, g.aggfinalfn::oid, g.aggtranstype, g.agginitval)::text
            AS parts
    FROM pg_aggregate g WHERE p.prokind = 'a' AND g.aggfnoid = p.oid) g ON true
    WHERE p.oid >= %(first)s::oid
    AND (p.oid = ANY (%(functions)s::oid[]) OR p.proname = ANY (%(names)s))
    AND {_NOT_OF_EXTENSION.format("p")}
)
SELECT i.type || ' ' || i.identity AS name, hash, functions, relations, texts
FROM found, LATERAL pg_identify_object(class, oid, 0) i
"""


@dataclass(frozen=True)
class _Object:
    """An object that has a say: its name and the hash of its definition; and what it uses in turn,
    functions and relations by oid, and texts of a function, in which names may stand."""

    name: str
    hash: str
    functions: list[int | None]
    relations: list[int]
    texts: list[str | None] = field(default_factory=list)


@dataclass(frozen=True)
class _Column:
    """A column of the table or the source: what it is, and the functions of its default."""

    of: int
    name: str
    value: str
    functions: list[int | None]


def read(
    conn: Connection, spec: Spec, info: TableInfo, *, with_source: bool = True
) -> dict[str, str]:
    """The surroundings of a phase: each object's name, and the hash of its definition; for a
    column, what it is.

    Columns go by the names that they will have after the pending renames and conversions, so these
    do not change the value. Indexes that a run makes or drops are left out.

    A rollback needs no source: then everything that only the source uses is left out, and the
    foreign keys that refer to the table are added, because they react when values go.
    """
    source = require_relation(conn, spec.source, READABLE).oid if with_source else None
    objects = rows_as(
        conn,
        _Object,
        _OBJECTS,
        {
            "table": info.oid,
            "source": source,
            "first": FIRST_OID_OF_USERS,
            "schemas": trust.schemas(spec) if with_source else [],
            "referring": not with_source,
            "indexes": _own_indexes(spec),
        },
    )
    both = list({info.oid, source or info.oid})
    columns = rows_as(conn, _Column, _COLUMNS, (both,))
    used = _of_users([o.functions for o in objects] + [c.functions for c in columns])
    read_too = {oid for each in objects for oid in each.relations}
    found = {each.name: each.hash for each in objects}
    found |= _columns(conn, spec, info, columns)
    found |= _reached(conn, used, read_too, words(_texts(spec)) if with_source else set())
    return dict(sorted(found.items()))


def require_unchanged(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    plan: Mapping[str, Any],
    *,
    written: bool = False,
) -> None:
    """Raise RunbookError, naming what is different, unless the surroundings are those of the plan.
    written is whether this call may have written rows before. A plan of an older version has none
    to compare with."""
    approved = plan.get("surroundings")
    if approved is None:
        return
    differences = changes(approved, read(conn, spec, info, with_source="undoes" not in plan))
    if differences:
        named = "; ".join(differences[:MAX_NAMED])
        more = len(differences) - MAX_NAMED
        raise RunbookError(
            f"What the approved plan was made on is not there any more: {named}"
            f"{f'; and {more} more' if more > 0 else ''}. {_KEPT if written else _UNCHANGED} "
            "Next step: find out who did that and what it does to the rows that are filled, then "
            "run the playbook again and read the new plan."
        )


_UNCHANGED = "Nothing was changed by this call."
_KEPT = "It happened while rows were written; batches that were committed are kept."


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What is different between two surroundings, in a few words for each object."""
    words = []
    for name in sorted({*before, *after}):
        if name not in before:
            words.append(f"{name} is new")
        elif name not in after:
            words.append(f"{name} is gone")
        elif before[name] != after[name]:
            words.append(f"{name} was changed")
    return words


def _texts(spec: Spec) -> list[str]:
    """All SQL that the phase itself has."""
    return [
        *(column.source for column in spec.columns),
        *(column.using or "" for column in spec.columns),
        *(index.where for index in spec.indexes),
        *(side for query in spec.queries for side in (query.snapshot, query.baseline)),
    ]


def _own_indexes(spec: Spec) -> list[str]:
    """The names that the phase's indexes have before, during and after a run."""
    names = {i.name for i in spec.indexes} | {i.renamed_from or i.name for i in spec.indexes}
    return sorted(names | {conversion.aside(spec, i.name) for i in spec.indexes})


def _columns(
    conn: Connection, spec: Spec, info: TableInfo, found: Iterable[_Column]
) -> dict[str, str]:
    pending = conversion.pending(spec, info)
    right = {now: name for name, now in columns.names_there(spec, info).items()}
    right |= {each.old: each.aside for each in pending}
    told = {}
    for column in found:
        if column.of == info.oid:
            name = right.get(column.name, column.name)
            told[f"column {name} of {spec.table}"] = column.value
        else:
            told[f"column {column.name} of {spec.source}"] = column.value
    for each in pending:
        told[f"column {each.column.name} of {spec.table}"] = _new_column(conn, each.column.type)
    return told


def _new_column(conn: Connection, spelled: str) -> str:
    """A column as ALTER TABLE … ADD COLUMN will make it, described as _COLUMNS does."""
    value: str = one(conn, _NEW_COLUMN, (types.modifier(conn, spelled), spelled))["value"]
    return value


def _reached(
    conn: Connection, functions: set[int], relations: set[int], names: set[str]
) -> dict[str, str]:
    """These functions and relations, whatever bears one of the names, and all that these use in
    turn; without what belongs to PostgreSQL or an extension."""
    found: dict[str, str] = {}
    given: dict[str, set[Any]] = {"functions": functions, "relations": relations, "names": names}
    seen: dict[str, set[Any]] = {key: set() for key in given}
    while any(given[key] - seen[key] for key in given):
        fresh = {key: sorted(given[key] - seen[key]) for key in given}
        seen = {key: seen[key] | given[key] for key in given}
        reached = rows_as(conn, _Object, _REACHED, {**fresh, "first": FIRST_OID_OF_USERS})
        found |= {each.name: each.hash for each in reached}
        given = {
            "functions": _of_users(each.functions for each in reached),
            "relations": {oid for each in reached for oid in each.relations},
            "names": words(text for each in reached for text in each.texts if text),
        }
    return found


def _of_users(lists: Iterable[list[int | None]]) -> set[int]:
    """The oids that are not PostgreSQL's own. One may be NULL, where an object has no function."""
    return {oid for each in lists for oid in each if oid is not None and oid >= FIRST_OID_OF_USERS}
