# SPDX-License-Identifier: GPL-3.0-or-later
"""Volatile functions in the phase's expressions and queries are found before anything executes
them. Only reads.

The server itself decides. A subquery in WITH that is read once is planned as a part of the query
around it, unless something in it is volatile: then EXPLAIN, which executes nothing, shows a scan of
it. That covers the views that are read, too. Which functions are volatile is then looked up by
their names, in the text and in the definitions of the views that it names.

A few functions count as stable, and yet assign a transaction id. Planning a query may call them, so
they are looked for by name before that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from psycopg.sql import SQL, Composable

from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.spec import Spec
from ..core.sql import name, render

ASSIGNING = ("pg_current_xact_id", "txid_current")

_ASKED = "pgrunbook_asked"
_IDENTIFIER = re.compile(r'"((?:[^"]|"")+)"|([^\W\d][\w$]*)')
_CALL = re.compile(rf"(?:{_IDENTIFIER.pattern})\s*\(")

_VIEWS = """
SELECT c.oid::int8 AS oid, pg_get_viewdef(c.oid) AS definition FROM pg_class c
WHERE c.relkind = 'v' AND c.relname = ANY (%s) AND c.oid <> ALL (%s::oid[])
"""
_VOLATILE = """
SELECT DISTINCT proname AS name FROM pg_proc WHERE provolatile = 'v' AND proname = ANY (%s)
ORDER BY 1
"""


def acknowledged(conn: Connection, spec: Spec, query: Composable, said: str) -> set[str]:
    """The volatile functions that a query calls, spelled as phase_acknowledged lists them, such as
    "random()". The server only plans the query.

    Raises RunbookError, which begins with said, where a function is not acknowledged or assigns a
    transaction id, or something volatile has no name to acknowledge. Raises psycopg.Error where the
    query is wrong.
    """
    called = require_none_assigns(conn, query, said)
    if not _is_volatile(conn, query):
        return set()
    found = _volatile(conn, called)
    if not found:
        raise RunbookError(
            f"{said}: something in it is volatile, such as the function behind an operator or a "
            "cast, or it locks rows. It was not executed. Next step: take that out, or call the "
            "function by its name."
        )
    missing = [f"{function}()" for function in found if f"{function}()" not in spec.acknowledged]
    if missing:
        raise RunbookError(
            f"{said}: it calls {', '.join(missing)}, which is volatile: each call may give another "
            "value, or do something, and the dry run and the checks call it as well. It was not "
            "executed. Next step: take it out, or, if it may be called at any time and as often "
            f"as there are rows, list {', '.join(missing)} in phase_acknowledged."
        )
    return {f"{function}()" for function in found}


def require_none_assigns(conn: Connection, query: Composable, said: str) -> set[str]:
    """The names of what a query, or a view that it reads, seems to call.

    Raises RunbookError, which begins with said, where one of them assigns a transaction id. The
    server does not even plan the query.
    """
    texts = _texts(conn, render(query))
    called = {word for text in texts for word in _words(_CALL, text)}
    assigning = [function for function in ASSIGNING if function in called]
    if assigning:
        raise RunbookError(
            f"{said}: it calls {_listed(assigning)}, which assigns a transaction id, and a dry run "
            "must not. It was not executed. Next step: take it out; "
            f"{assigning[0]}_if_assigned() assigns none."
        )
    return called


def _is_volatile(conn: Connection, query: Composable) -> bool:
    explain = SQL("EXPLAIN (FORMAT JSON) WITH {asked} AS (\n{query}\n) SELECT * FROM {asked}")
    # A binary result makes psycopg use the extended protocol, which takes one statement only.
    planned = conn.execute(explain.format(asked=name(_ASKED), query=query), (), binary=True)
    row = planned.fetchone()
    return any(node.get("CTE Name") == _ASKED for node in _nodes(row["QUERY PLAN"] if row else []))


def _nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """Every node of a plan of EXPLAIN (FORMAT JSON), and whatever else is a mapping in it."""
    if isinstance(plan, dict):
        yield plan
    for inner in plan.values() if isinstance(plan, dict) else plan:
        if isinstance(inner, dict | list):
            yield from _nodes(inner)


def _texts(conn: Connection, text: str) -> list[str]:
    """The text, and the definitions of the views that it names, and that these name."""
    texts, seen, fresh = [text], [0], [text]
    while fresh:
        words = sorted({word for each in fresh for word in _words(_IDENTIFIER, each)})
        views = conn.execute(_VIEWS, (words, seen)).fetchall()
        fresh = [view["definition"] for view in views]
        seen += [view["oid"] for view in views]
        texts += fresh
    return texts


def _words(pattern: re.Pattern[str], text: str) -> set[str]:
    """The identifiers that a pattern finds, as the server reads them."""
    found = pattern.findall(text)
    return {quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in found}


def _volatile(conn: Connection, names: Iterable[str]) -> list[str]:
    return [row["name"] for row in conn.execute(_VOLATILE, (sorted(names),))]


def _listed(functions: Iterable[str]) -> str:
    return ", ".join(f"{function}()" for function in functions)
