# SPDX-License-Identifier: GPL-3.0-or-later
"""Two types beside each other: whether they are the same, which one holds more, and how a value of
one becomes a value of the other."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg.sql import SQL, Composable

from .. import catalog
from ..core.connection import Connection, looking_in, one
from ..core.sql import text

if TYPE_CHECKING:
    from sqlalchemy import Column as ModelColumn


class Type(NamedTuple):
    """A type by its oid and by format_type()'s spelling, with its length or precision. The oid is 0
    where this server has no such type; the spelling is empty where the models give no type."""

    oid: int
    spelling: str


_COLLATION = re.compile(r' COLLATE "(?:[^"]|"")*"$')
"""What SQLAlchemy's spelling of a type has besides the type."""


def type_of(conn: Connection, column: ModelColumn[Any]) -> Type:
    """The type that the models give a column."""
    from sqlalchemy.dialects.postgresql.base import PGDialect
    from sqlalchemy.types import NullType

    if isinstance(column.type, NullType):
        return Type(0, "")
    try:
        # SQLAlchemy gives the constructor of a dialect no types.
        spelled = column.type.compile(dialect=PGDialect(paramstyle="named"))  # type: ignore[no-untyped-call]
    except Exception as error:
        error.add_note(f"in the type of {column}")
        raise
    bare = _COLLATION.sub("", spelled)
    return Type(*(catalog.resolve_type(conn, bare) or (0, bare)))


def is_same(found: Type, expected: Type) -> bool:
    """Whether two types are the same. Where this server does not find the models' type, only the
    names are compared. A column that has no type in the models may have any."""
    if expected.oid:
        return found == expected
    return not expected.spelling or _bare(found.spelling) == _bare(expected.spelling)


def _bare(spelling: str) -> str:
    last = spelling.rpartition(".")[2]
    return last.strip('"') if '"' in last else last.casefold()


_ELEMENT = (
    "(SELECT CASE WHEN typcategory = 'A' AND typelem <> 0 THEN typelem ELSE oid END AS oid"
    " FROM pg_type WHERE oid = %s::oid)"
)
_COMPATIBLE = (
    f"SELECT count(*) > 0 AS ok FROM {_ELEMENT} a, {_ELEMENT} b WHERE a.oid = b.oid OR EXISTS ("
    "SELECT FROM pg_cast WHERE castcontext <> 'e'"
    " AND (castsource, casttarget) IN ((a.oid, b.oid), (b.oid, a.oid)))"
)


def are_compatible(conn: Connection, one_oid: int, other_oid: int) -> bool:
    """Whether two types, or the elements of two arrays, are the same, or PostgreSQL casts one to
    the other without being asked to."""
    return bool(one(conn, _COMPATIBLE, (one_oid, other_oid))["ok"])


def spelled(conn: Connection, type_: Type) -> str:
    """The type in a spelling that SQL finds whatever the search_path; empty where this server has
    no such type."""
    if not type_.oid:
        return ""
    with looking_in(conn, ()):
        bare: str = one(conn, "SELECT format_type(%s::oid, NULL) AS name", (type_.oid,))["name"]
    if "." not in bare:
        return type_.spelling
    ends = type_.spelling.endswith(")")
    modifier = type_.spelling[type_.spelling.rindex("(") :] if ends else ""
    return f"{bare}{modifier}"


def fits(found: str, expected: str) -> str:
    """How the database's type compares with the models', both in format_type()'s spelling.

    "all": each holds every value of the other. "wider": the database's holds every value of the
    models'. "narrower": the other way round. "alike": the application reads and writes both in one
    way. Else "".
    """
    if {found, expected} == {"json", "jsonb"}:
        return "alike"
    there, wanted = _size(found), _size(expected)
    if there is None or wanted is None or there[0] != wanted[0]:
        return ""
    if there[1] == wanted[1]:
        return "all"
    return "wider" if there[1] > wanted[1] else "narrower"


_INTEGERS = {"smallint": 2, "integer": 4, "bigint": 8}
_UNLIMITED = 10**9
"""More than any length: PostgreSQL's longest is 10,485,760 (its documentation, 8.3)."""


def _size(type_: str) -> tuple[str, int] | None:
    """The family of a type, and how much it holds; None for a type that has no such order."""
    if type_ in _INTEGERS:
        return "integer", _INTEGERS[type_]
    if type_ in ("text", "character varying"):
        return "string", _UNLIMITED
    start = "character varying("
    if type_.startswith(start) and type_.endswith(")"):
        return "string", int(type_[len(start) : -1])
    return None


def converted(of: Composable, found: str, expected: str) -> Composable:
    """The expression that makes a value one of another type. Of an array it takes the first
    element: several elements cannot become one value."""
    if found.endswith("[]") and not expected.endswith("[]"):
        return SQL("{}[1]::{}").format(of, text(expected))
    if expected.endswith("[]") and not found.endswith("[]"):
        return SQL("ARRAY[{}]::{}").format(of, text(expected))
    return SQL("{}::{}").format(of, text(expected))
