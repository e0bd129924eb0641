# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the ledger has every table and column that its version made. Only reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..core.connection import Connection
from ..core.errors import RunbookError
from .migrations import MIGRATIONS

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS pgrunbook\.(\w+) \(\n(.*?)\n\);", re.DOTALL)
_COLUMN = re.compile(r"^ {4}(\w+) ", re.MULTILINE)
_ADDED = re.compile(r"ALTER TABLE pgrunbook\.(\w+) ADD COLUMN IF NOT EXISTS (\w+) ")

_LACKING = """
SELECT p.of, c.oid IS NULL AS whole, string_agg(p.name, ', ' ORDER BY p.name) AS columns
FROM unnest(%s::text[], %s::text[]) AS p (of, name)
LEFT JOIN pg_class c ON c.relnamespace = to_regnamespace('pgrunbook') AND c.relname = p.of
    AND c.relkind IN ('r', 'p')
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = p.name AND a.attnum > 0
    AND NOT a.attisdropped
WHERE a.attname IS NULL GROUP BY p.of, c.oid ORDER BY p.of
"""


def parts(version: int) -> set[tuple[str, str]]:
    """The columns of a ledger of that version, each with its table."""
    return {part for number, sql in MIGRATIONS.items() if number <= version for part in _made(sql)}


def _made(sql: str) -> Iterator[tuple[str, str]]:
    for table, body in _TABLE.findall(sql):
        yield from ((table, column) for column in _COLUMN.findall(body))
    yield from _ADDED.findall(sql)


def require_whole(conn: Connection, version: int) -> None:
    """Raise RunbookError with the tables and columns that a ledger of that version lacks."""
    tables, names = zip(*sorted(parts(version)), strict=True)
    rows = conn.execute(_LACKING, (list(tables), list(names))).fetchall()
    lacking = [
        f"table {row['of']}" if row["whole"] else f"{row['columns']} in table {row['of']}"
        for row in rows
    ]
    if lacking:
        raise not_whole("; ".join(lacking))


def not_whole(lacking: str) -> RunbookError:
    """The error of a ledger that lacks something."""
    return RunbookError(
        f"The ledger, schema pgrunbook, lacks {lacking}: somebody has dropped or altered it. This "
        "call stops here; what was committed before is kept. Next step: find out who did that, and "
        "restore schema pgrunbook from a backup: without it nobody knows which rows a run filled. "
        "To begin anew with no way back for earlier runs, ALTER SCHEMA pgrunbook RENAME TO another "
        "name, then run the playbook again."
    )
