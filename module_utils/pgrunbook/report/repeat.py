# SPDX-License-Identifier: GPL-3.0-or-later
"""How a person repeats each test by hand: with psql, or with a playbook."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Composable, Literal

from ..backfill.equality import Rule
from ..catalog import conversion
from ..core.printable import sql
from ..core.spec import Query, Spec
from ..core.sql import comma, name, render, table, text
from ..gates import query_gates
from ..gates.orphans import orphaned
from ..gates.row_comparison import comparing_all


def commands(spec: Spec | None, facts: dict[str, Any]) -> dict[int, list[dict[str, str]]]:
    """For each test of the report a list of what and command. They suppose that the columns bear
    the names that the phase wants; without a specification there are none."""
    if spec is None:
        return {}
    psql = _psql(facts)

    def run(what: str, *queries: Composable) -> dict[str, str]:
        lines = [f"psql {psql} <<'SQL'", *(f"{sql(render(query))};" for query in queries), "SQL"]
        return {"what": what, "command": "\n".join(lines)}

    def play(what: str, *arguments: str) -> dict[str, str]:
        return {"what": what, "command": playbook(facts, "", *arguments)}

    return {
        1: [run("The server, and source keys without a source row", *_health(spec))],
        2: [
            run("Columns and indexes of the table", *_schema(spec)),
            play("The comparison with the models", "--check"),
        ],
        3: [run("Coverage of each column, in per cent of all rows", _coverage(spec))],
        4: [play("The dry run; it ends with the server's word", "--check")],
        5: [
            *(run(f"{query.name}: both queries", *_pair(spec, query)) for query in spec.queries),
            *(run(what, *queries) for what, queries in _trials(spec, facts)),
        ],
        6: [run("Every row against its source", _differing(spec, facts))],
    }


def playbook(facts: dict[str, Any], book: str = "", *arguments: str) -> str:
    """A command that runs the phase's own playbook, or another one, on the same inventory."""
    command = facts.get("command") or {}
    parts = [
        "ansible-playbook",
        command.get("inventory", ""),
        book or command.get("playbook", "playbooks/<phase>.yml"),
        *arguments,
    ]
    return " ".join(part for part in parts if part)


def _psql(facts: dict[str, Any]) -> str:
    """The connection as psql takes it, quoted for a shell. A password is never part of it."""
    server = (facts.get("preflight") or {}).get("server") or {}
    login = facts.get("login") or {"dbname": server.get("database"), "user": server.get("user")}
    known = {key: value for key, value in login.items() if key != "password" and value}
    try:
        return shlex.quote(make_conninfo("", **known))
    except ProgrammingError:
        return shlex.quote(str(known.get("dbname", "")))


def _health(spec: Spec) -> Iterator[Composable]:
    yield SQL("SELECT version(), pg_is_in_recovery()")
    yield SQL("SELECT count(*) AS orphans FROM {} t\nWHERE {}").format(
        table(spec.table), orphaned(spec)
    )


def _schema(spec: Spec) -> Iterator[Composable]:
    oid = Literal(render(table(spec.table)).replace("%", "%%"))
    yield SQL(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute\n"
        "WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ).format(oid)
    yield SQL(
        "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indrelid = {}::regclass"
    ).format(oid)


def _coverage(spec: Spec) -> Composable:
    shares = comma(
        SQL("trunc(count({c}) * 100.0 / greatest(count(*), 1), 2) AS {c}").format(c=name(c.name))
        for c in spec.columns
    )
    return SQL("SELECT count(*) AS rows, {}\nFROM {}").format(shares, table(spec.table))


def _pair(spec: Spec, query: Query) -> Iterator[Composable]:
    columns = conversion.readable(spec, {c.name: c.type for c in spec.columns})
    for side in (query.snapshot, query.baseline):
        yield SQL("EXPLAIN (ANALYZE, BUFFERS) {}").format(query_gates.compile(spec, columns, side))


def _trials(spec: Spec, facts: dict[str, Any]) -> Iterator[tuple[str, list[Composable]]]:
    """How to try once more each index that was tried and dropped again."""
    pairs = (facts.get("queries") or {}).get("pairs", [])
    for query, pair in zip(spec.queries, pairs, strict=False):
        proposal = pair.get("proposal") or {}
        if proposal.get("tried") and not proposal["tried"]["kept"]:
            queries = [text(proposal["sql"]), *_pair(spec, query), text(proposal["undo"])]
            yield f"{query.name}: both with the index, which is built and dropped again", queries


def _differing(spec: Spec, facts: dict[str, Any]) -> Composable:
    schema = (facts.get("validation") or {}).get("schema") or {}
    held = conversion.held(spec, schema.get("columns") or {c.name: c.type for c in spec.columns})
    told = (facts.get("plan") or {}).get("compared_by") or {}
    by = {column: Rule(**rule) for column, rule in told.items()}
    return comparing_all(spec, held, by)
