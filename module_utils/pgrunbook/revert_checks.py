# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a rollback's way, found before anything is given back. Only reads."""

from __future__ import annotations

from collections.abc import Iterable

from .catalog import TableInfo
from .connection import Connection
from .errors import require_none
from .spec import Spec

_ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
}
"""pg_constraint.confupdtype in words."""

# Partitions have a constraint each that belongs to their parent's, which is the one to be named.
_REFERRING = """
WITH RECURSIVE found AS (
    SELECT k.oid, k.conparentid, a.attname FROM pg_constraint k
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
    WHERE k.contype = 'f' AND a.attname = ANY (%(columns)s)
    AND coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)
    AND k.confrelid IN (SELECT %(table)s::oid UNION SELECT relid
        FROM pg_partition_tree(%(table)s::oid)
        UNION SELECT relid FROM pg_partition_ancestors(%(table)s::oid))
    UNION
    SELECT p.oid, p.conparentid, f.attname FROM found f
    JOIN pg_constraint p ON p.oid = f.conparentid
)
SELECT k.conname AS name, format('%%I.%%I', n.nspname, c.relname) AS of,
    k.confupdtype::text AS action, string_agg(DISTINCT f.attname, ', ') AS columns
FROM found f JOIN pg_constraint k USING (oid) JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conparentid = 0 GROUP BY k.oid, k.conname, n.nspname, c.relname, k.confupdtype
ORDER BY 2, 1
"""


def require_no_references(
    conn: Connection, spec: Spec, info: TableInfo, columns: Iterable[str]
) -> None:
    """Raise RunbookError with the foreign keys that refer to one of the columns: giving its values
    back would change other rows, or be stopped by them."""
    rows = conn.execute(_REFERRING, {"table": info.oid, "columns": list(columns)})
    require_none(
        f"Constraint {row['name']!r} of {row['of']} refers to {row['columns']} of {spec.table}, ON "
        f"UPDATE {_ACTIONS[row['action']]}: {_effect(row['action'], row['of'])} Nothing was "
        f"changed. Next step: drop the constraint, if {row['of']} may differ from then on, and "
        "plan the rollback again."
        for row in rows
    )


def _effect(action: str, of: str) -> str:
    if action in "ar":
        return f"a value that {of} refers to could not be given back."
    return f"giving values back would change the rows of {of} that refer to them."
