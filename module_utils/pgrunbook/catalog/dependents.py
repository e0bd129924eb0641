# SPDX-License-Identifier: GPL-3.0-or-later
"""What depends on a column, or names it: what a rename carries along, and what it breaks. Only
reads.

PostgreSQL keeps a reference to a column by its number, so whatever it has parsed and stored goes
along with a rename: views, rules, policies, indexes. What it keeps as text does not: the body of a
function in any language, and the arguments of a trigger.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.connection import Connection

FIRST_OID_OF_USERS = 16384
"""FirstNormalObjectId of PostgreSQL's access/transam.h: objects below it come with the server."""

_KINDS = {
    "table column": "generated column",
    "default value": "column default",
    "table constraint": "constraint",
}
"""How pg_identify_object() calls what a person knows under another name."""

_AS_TEXT = (
    "names the column as text, which PostgreSQL does not change; a comment, or a column of that "
    "name in another table, cannot be told from it"
)
_BY_NAME = "its subscribers find columns by name: rename theirs too, or replication stops"


@dataclass(frozen=True)
class Dependent:
    """What depends on a column, or has its name in a text: kind in words, object as PostgreSQL
    identifies it. follows is true where PostgreSQL carries it along when the column is renamed,
    and false where it keeps the name as text, and fails when it is next called. note says what
    else a person should know, or is empty."""

    column: str
    kind: str
    object: str
    follows: bool
    note: str = ""


def dependents(conn: Connection, table_oid: int, column: str) -> list[Dependent]:
    """What depends directly on a column of a table and its partitions, or has its name in a text.

    In texts, upper and lower case count as the same, because PostgreSQL folds names without quotes.
    """
    return [
        *_carried(conn, table_oid, column),
        *_publications(conn, table_oid, column),
        *_trigger_arguments(conn, table_oid, column),
        *_functions(conn, column),
    ]


_TREE = "SELECT %(table)s::oid UNION SELECT relid FROM pg_partition_tree(%(table)s::oid)"

# An object of a partition is left out where it came with its parent's. A view is its rule _RETURN,
# a generated column its expression.
_CARRIED = f"""
WITH found AS (
    SELECT DISTINCT
        CASE WHEN v.oid IS NOT NULL OR g.attnum IS NOT NULL THEN 'pg_class'::regclass::oid
             ELSE d.classid END AS classid,
        coalesce(v.oid, g.attrelid, d.objid) AS objid,
        coalesce(g.attnum::int, CASE WHEN v.oid IS NULL THEN d.objsubid ELSE 0 END) AS objsubid,
        v.oid AS view
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
        AND w.rulename = '_RETURN'
    LEFT JOIN pg_class v ON v.oid = w.ev_class
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum
        AND g.attgenerated <> ''
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid IN ({_TREE})
    AND a.attname = %(column)s AND d.deptype <> 'i'
    AND d.classid <> 'pg_publication_rel'::regclass
    AND NOT EXISTS (SELECT FROM pg_inherits WHERE d.classid = 'pg_class'::regclass
        AND inhrelid = d.objid AND inhparent <> d.refobjid)
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE d.classid = 'pg_constraint'::regclass
        AND oid = d.objid AND (conparentid <> 0 OR coninhcount > 0 AND NOT conislocal))
    AND NOT EXISTS (SELECT FROM pg_attribute h WHERE h.attinhcount > 0 AND NOT h.attislocal
        AND (h.attrelid, h.attnum::int) IN ((f.adrelid, f.adnum::int),
            (CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END, d.objsubid)))
    AND NOT EXISTS (SELECT FROM pg_trigger WHERE d.classid = 'pg_trigger'::regclass
        AND oid = d.objid AND tgparentid <> 0)
)
SELECT i.type AS kind, i.identity AS object, EXISTS (
    SELECT FROM pg_attribute a WHERE a.attrelid = view AND a.attname = %(column)s) AS keeps_name
FROM found, LATERAL pg_identify_object(classid, objid, objsubid) i
"""


def _carried(conn: Connection, table_oid: int, column: str) -> list[Dependent]:
    rows = conn.execute(_CARRIED, {"table": table_oid, "column": column})
    keeps = f"goes on working, and still calls its own column {column}"
    found = [
        Dependent(
            column,
            str(_KINDS.get(row["kind"], row["kind"])),
            row["object"],
            True,
            keeps if row["keeps_name"] else "",
        )
        for row in rows
    ]
    return sorted(found, key=lambda d: (d.kind, d.object))


# Up to PostgreSQL 14 the view has no attnames: a publication was of whole tables.
_PUBLICATIONS = f"""
SELECT quote_ident(name) AS name, bool_or(published) AS published FROM (
    SELECT p.pubname AS name, true AS published FROM pg_publication_tables p
    JOIN pg_namespace n ON n.nspname = p.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
    WHERE c.oid IN ({_TREE}) AND coalesce(to_jsonb(p) -> 'attnames' ? %(column)s, true)
    UNION ALL
    SELECT p.pubname, false FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    JOIN pg_publication_rel r ON r.oid = d.objid JOIN pg_publication p ON p.oid = r.prpubid
    WHERE d.classid = 'pg_publication_rel'::regclass AND d.refclassid = 'pg_class'::regclass
    AND d.refobjid IN ({_TREE}) AND a.attname = %(column)s
) of GROUP BY name ORDER BY name
"""


def _publications(conn: Connection, table_oid: int, column: str) -> list[Dependent]:
    """Publications that send the column, or whose row filter reads it."""
    rows = conn.execute(_PUBLICATIONS, {"table": table_oid, "column": column})
    return [
        Dependent(column, "publication", row["name"], True, _BY_NAME if row["published"] else "")
        for row in rows
    ]


_TRIGGER_ARGUMENTS = f"""
SELECT i.identity AS object FROM pg_trigger g,
LATERAL pg_identify_object('pg_trigger'::regclass, g.oid, 0) i
WHERE g.tgrelid IN ({_TREE}) AND NOT g.tgisinternal AND g.tgparentid = 0
AND encode(convert_to(%(column)s, getdatabaseencoding()), 'escape')
    = ANY (string_to_array(encode(g.tgargs, 'escape'), '\\000'))
ORDER BY 1
"""


def _trigger_arguments(conn: Connection, table_oid: int, column: str) -> list[Dependent]:
    """Triggers that hand the column's name to their function, as tsvector_update_trigger wants."""
    rows = conn.execute(_TRIGGER_ARGUMENTS, {"table": table_oid, "column": column})
    return [Dependent(column, "trigger argument", row["object"], False, _AS_TEXT) for row in rows]


# The name as it is, and as it stands between quotes of either kind. A parsed body has no prosrc.
_FUNCTIONS = """
SELECT CASE WHEN p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)
            THEN 'trigger function' WHEN p.prokind = 'p' THEN 'procedure' ELSE 'function' END
       AS kind, p.oid::regprocedure::text AS object
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'internal') AND p.oid >= %(first)s
AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid
    AND e.deptype = 'e')
AND EXISTS (SELECT FROM unnest(%(spelled)s::text[]) AS name
    WHERE p.prosrc ~* ('(^|[^[:alnum:]_])'
        || regexp_replace(name, '([^[:alnum:]_])', '\\\\\\1', 'g') || '($|[^[:alnum:]_])'))
ORDER BY 2
"""


def _functions(conn: Connection, column: str) -> list[Dependent]:
    """Functions and procedures, apart from those of extensions, whose body is a string that has the
    name in it as a word."""
    doubled = column.replace('"', '""')
    spelled = list({column, doubled, column.replace("'", "''"), doubled.replace("'", "''")})
    rows = conn.execute(_FUNCTIONS, {"spelled": spelled, "first": FIRST_OID_OF_USERS})
    return [Dependent(column, row["kind"], row["object"], False, _AS_TEXT) for row in rows]
