# SPDX-License-Identifier: GPL-3.0-or-later
"""Which table a person means: the server compares what they typed with the names that it has, so
nothing here takes a name apart."""

from __future__ import annotations

from .. import catalog
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.spec import Table

_MEANT = """
SELECT n.nspname AS schema, c.relname AS name FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%%'
AND n.nspname <> 'information_schema'
AND %(given)s::text IN (c.relname::text, n.nspname || '.' || c.relname, quote_ident(c.relname),
                  quote_ident(n.nspname) || '.' || quote_ident(c.relname))
ORDER BY n.nspname <> 'public', n.nspname, c.relname
"""
_ALL = """
SELECT n.nspname || '.' || c.relname AS full, c.relname AS name FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%%'
AND n.nspname <> 'information_schema'
"""


def meant(conn: Connection, given: str, option: str) -> Table:
    """The table that is meant by a name, with its schema or without, as PostgreSQL stores it or as
    SQL quotes it. Without a schema, that in public comes before others.

    Raises RunbookError where there is none, or several could be meant.
    """
    found = [
        Table(row["schema"], row["name"]) for row in conn.execute(_MEANT, {"given": given.strip()})
    ]
    in_public = [t for t in found if t.schema == "public" and t.name == given.strip()]
    if len(found) == 1 or in_public:
        return (in_public or found)[0]
    if not found:
        raise RunbookError(_none(conn, given.strip(), option))
    raise RunbookError(
        f"{option} is {given!r}, and that could be {', '.join(map(str, found))}. Next step: give "
        f"{option} with its schema, such as {found[0]}."
    )


def _none(conn: Connection, given: str, option: str) -> str:
    there = list(conn.execute(_ALL))
    near = catalog.near_names(given, [row["full" if "." in given else "name"] for row in there])
    return (
        f"There is no table {given!r} in database {conn.info.dbname!r}.{near} Next step: correct "
        f"{option}; a name is given as PostgreSQL stores it, capitals and all, with its schema "
        "where that is not public."
    )
