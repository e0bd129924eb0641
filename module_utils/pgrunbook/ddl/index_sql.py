# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQL of indexes, as a statement and as a dry run shows it."""

from __future__ import annotations

from psycopg.sql import SQL, Composed

from ..catalog import TableInfo
from ..core.spec import Index, Table
from ..core.sql import comma, drop_index, expression, name, table


def create(on: Table, index: Index, *, called: str = "", only: bool = False) -> Composed:
    """The CREATE INDEX of an index of the phase, on the table or, under another name, on one of its
    partitions. It is concurrent. With only, it is on a partitioned table without its partitions: a
    change of the catalog, and not concurrent."""
    method = SQL(" USING {}").format(name(index.method)) if index.method != "btree" else SQL("")
    include = (
        SQL(" INCLUDE ({})").format(comma(name(c) for c in index.include))
        if index.include
        else SQL("")
    )
    where = SQL(" WHERE {}").format(expression(index.where)) if index.where else SQL("")
    return SQL("CREATE INDEX {}{} ON {}{}{} ({}){}{}").format(
        SQL("" if only else "CONCURRENTLY "),
        name(called or index.name),
        SQL("ONLY " if only else ""),
        table(on),
        method,
        comma(name(c) for c in index.columns),
        include,
        where,
    )


def drop(on: Table, index: str, *, concurrently: bool = True) -> Composed:
    """The DROP INDEX of an index of the table."""
    return drop_index(name(on.schema, index), concurrently=concurrently)


def concurrently(definition: str) -> str:
    """The catalog's definition of an index, as a statement that does not block writers."""
    return definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)


def foreseen(on: Table, info: TableInfo, index: Index) -> str:
    """How a dry run shows an index that is not there yet, in the manner of pg_get_indexdef()."""
    only = "ONLY " if info.partitioned else ""
    include = f" INCLUDE ({', '.join(index.include)})" if index.include else ""
    where = f" WHERE ({index.where})" if index.where else ""
    columns = f"({', '.join(index.columns)}){include}{where}"
    return f"CREATE INDEX {index.name} ON {only}{on} USING {index.method} {columns}"


def described(index: Index) -> str:
    """What an index is on, for a message."""
    method = "" if index.method == "btree" else f"by {index.method} "
    include = f" including {', '.join(index.include)}" if index.include else ""
    where = f" where {index.where}" if index.where else ""
    return f"{method}on ({', '.join(index.columns)}){include}{where}"
