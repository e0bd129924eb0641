# SPDX-License-Identifier: GPL-3.0-or-later
"""How a person repeats each test by hand: with psql, or with a playbook."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

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
from .facts import Facts
from .value import Command


def commands(spec: Spec | None, facts: Facts) -> dict[int, tuple[Command, ...]]:
    """The commands for each test of the report. They suppose that the columns bear
    the names that the phase wants; without a specification there are none."""
    if spec is None:
        return {}
    psql = _psql(facts)

    def run(what: str, *queries: Composable) -> Command:
        lines = [f"psql {psql} <<'SQL'", *(f"{sql(render(query))};" for query in queries), "SQL"]
        return Command(what, "\n".join(lines))

    def play(what: str, *arguments: str) -> Command:
        return Command(what, playbook(facts, "", *arguments))

    return {
        1: (run("The server, and source keys without a source row", *_health(spec)),),
        2: (
            run("Columns and indexes of the table", *_schema(spec)),
            play("The comparison with the models", "--check"),
        ),
        3: (run("Coverage of each column, in per cent of all rows", _coverage(spec)),),
        4: (play("The dry run; it ends with the server's word", "--check"),),
        5: (
            *(run(f"{query.name}: both queries", *_pair(spec, query)) for query in spec.queries),
            *(run(what, *queries) for what, queries in _trials(spec, facts)),
        ),
        6: (run("Every row against its source", _differing(spec, facts)),),
    }


def playbook(facts: Facts, book: str = "", *arguments: str) -> str:
    """A command that runs the phase's own playbook, or another one, on the same inventory."""
    parts = ["ansible-playbook", facts.inventory, book or facts.phase.playbook, *arguments]
    return " ".join(part for part in parts if part)


def _psql(facts: Facts) -> str:
    """The connection as psql takes it, quoted for a shell. A password is never part of it."""
    server = facts.preflight.server
    login = facts.login or {"dbname": server.get("database"), "user": server.get("user")}
    known = {key: value for key, value in login.items() if value}
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


def _trials(spec: Spec, facts: Facts) -> Iterator[tuple[str, list[Composable]]]:
    """How to try once more each index that was tried and dropped again."""
    for query, pair in zip(spec.queries, facts.queries_measured.pairs, strict=False):
        advice = pair.proposal
        if advice and advice.tried and not advice.tried.kept:
            queries = [text(advice.sql), *_pair(spec, query), text(advice.undo)]
            yield f"{query.name}: both with the index, which is built and dropped again", queries


def _differing(spec: Spec, facts: Facts) -> Composable:
    columns = facts.schema_after.get("columns") or {c.name: c.type for c in spec.columns}
    held = conversion.held(spec, columns)
    by = {column: Rule(**rule) for column, rule in facts.plan.compared_by.items()}
    return comparing_all(spec, held, by)
