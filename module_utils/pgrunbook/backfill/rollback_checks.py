# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback finds of what the run filled, and what is in its way before it begins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL, Composed, Literal

from .. import catalog, ledger
from ..catalog import IndexInfo, TableInfo
from ..core import printable
from ..core.connection import Connection, one
from ..core.errors import RunbookError, require_none
from ..core.reconnect import raise_if_lost
from ..core.spec import Spec, Table
from ..core.sql import comma, name, render, table, text
from ..ledger import filled, forgotten, taken_back
from ..ledger.filled import present_columns
from ..ledger.taken_back import Entries
from .eligibility import any_of

SAMPLED_ROWS = 1000  # on which constraints are tried, as the rows would be without their values


def require_taken_back(conn: Connection, run_id: str) -> None:
    """Raise RunbookError where rows that the run filled, or names and types that it gave, still
    stand. What is there no more, such as the rows' columns, does not."""
    standing = [
        f"the {change.kind} of {change.old} to {change.new}"
        for change in ledger.standing_changes(conn, run_id)
        if change.kind in ("rename", "convert")
    ]
    rows = ledger.rows_standing(conn, run_id)
    if rows:
        spec = ledger.approved_spec(conn, run_id)
        if present_columns(conn, spec, catalog.inspect(conn, spec.table), run_id):
            standing = [f"{rows:,} rows that it filled", *standing]
    if standing:
        raise RunbookError(
            f"Run {run_id} is not taken back: there are still {'; '.join(standing)}. Nothing was "
            f"recorded. Next step: playbooks/rollback.yml -e run={run_id}, the whole of it."
        )


def require_unique_key(spec: Spec, info: TableInfo) -> None:
    """Raise RunbookError where the key is not unique any more: another row could bear a key that is
    in the journal."""
    if not any(_tells_apart(index, spec.key) for index in info.indexes.values()):
        build = SQL("CREATE UNIQUE INDEX {} ON {} ({})").format(
            SQL("" if info.partitioned else "CONCURRENTLY"),
            table(spec.table),
            comma(name(k) for k in spec.key),
        )
        raise RunbookError(
            f"{spec.table} has no unique index on ({', '.join(spec.key)}) any more, so the rows in "
            "the journal could not be told from others of the same key. Nothing was changed. Next "
            f"step: {printable.sql(render(build))}; then plan the rollback again."
        )


def _tells_apart(index: IndexInfo, key: Collection[str]) -> bool:
    """Whether no two rows of a table with this index have the same key."""
    whole = bool(index.key) and not index.predicate
    return index.unique and index.valid and whole and set(index.key) <= set(key)


@dataclass(frozen=True)
class _Relation:
    """The table, or a partition of it on any level."""

    oid: int
    table: Table


_RELATIONS = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT %(table)s::oid UNION SELECT relid FROM pg_partition_tree(%(table)s::oid))
ORDER BY c.oid <> %(table)s::oid, 2, 3
"""

# What a partition has from the table, or from a partition of it above, is told of that only.
_NOT_NULL = """
SELECT a.attname AS name FROM pg_attribute a
WHERE a.attrelid = %(table)s::oid AND a.attname = ANY (%(columns)s) AND a.attnotnull
AND (a.attrelid = %(top)s::oid OR NOT EXISTS (
    SELECT FROM pg_inherits h JOIN pg_attribute p ON p.attrelid = h.inhparent
    WHERE h.inhrelid = a.attrelid AND p.attname = a.attname AND p.attnotnull))
ORDER BY a.attnum
"""

_CHECKS = f"""
SELECT k.conname AS name, pg_get_expr(k.conbin, k.conrelid) AS expression FROM pg_constraint k
WHERE k.conrelid = %(table)s::oid AND k.contype = 'c'
AND (k.conrelid = %(top)s::oid OR k.coninhcount = 0)
AND {catalog.ENFORCED}
AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.conrelid
    AND a.attnum = ANY (k.conkey) AND a.attname = ANY (%(columns)s))
ORDER BY 1
"""

_WHOLE_KEYS = f"""
SELECT k.conname AS name FROM pg_constraint k
WHERE k.conrelid = %(table)s::oid AND k.contype = 'f'
AND (k.conrelid = %(top)s::oid OR k.conparentid = 0)
AND k.confmatchtype = 'f' AND cardinality(k.conkey) > 1
AND {catalog.ENFORCED}
AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = k.conrelid
    AND a.attnum = ANY (k.conkey) AND a.attname = ANY (%(columns)s))
ORDER BY 1
"""

# Up to PostgreSQL 14 NULLs are always distinct.
_UNIQUE = f"""
SELECT c.relname AS name, pg_get_expr(i.indpred, i.indrelid) AS predicate,
    ARRAY(SELECT pg_get_indexdef(i.indexrelid, n, false)
          FROM generate_series(1, i.indnkeyatts) n) AS keys,
    coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) AS nulls_are_equal
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %(table)s::oid AND i.indisunique
AND (i.indrelid = %(top)s::oid
    OR NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid))
AND {catalog.MENTIONS} && %(columns)s::text[]
ORDER BY 1
"""

_ACTIONS = {
    "a": "NO ACTION",
    "r": "RESTRICT",
    "c": "CASCADE",
    "n": "SET NULL",
    "d": "SET DEFAULT",
}
"""pg_constraint.confupdtype in words."""

# Partitions have a constraint each that belongs to their parent's, which is the one to be named.
_REFERRING = f"""
WITH RECURSIVE found AS (
    SELECT k.oid, k.conparentid, a.attname FROM pg_constraint k
    JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey)
    WHERE k.contype = 'f' AND a.attname = ANY (%(columns)s)
    AND {catalog.ENFORCED}
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


def require_possible(conn: Connection, spec: Spec, info: TableInfo, columns: Iterable[str]) -> None:
    """Raise RunbookError with what was made since, on the table or a partition, and would refuse
    the NULLs in these columns."""
    ours = list(columns)
    relations = [
        _Relation(row["oid"], Table(row["schema"], row["name"]))
        for row in conn.execute(_RELATIONS, {"table": info.oid}).fetchall()
    ]
    require_none(
        refusal for each in relations for refusal in _refusals(conn, spec, info, each, ours)
    )


def _refusals(
    conn: Connection, spec: Spec, info: TableInfo, relation: _Relation, ours: list[str]
) -> Iterator[str]:
    on = relation.table
    given = {"top": info.oid, "table": relation.oid, "columns": ours}
    for row in conn.execute(_NOT_NULL, given).fetchall():
        allow = SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(
            table(on), name(row["name"])
        )
        yield (
            f"Column {row['name']!r} of {on} has become NOT NULL since the run, so no row could be "
            "given back. Nothing was changed. Next step: SET lock_timeout = "
            f"'{spec.lock_timeout_ms}ms'; {printable.sql(render(allow))}; if the application can "
            "bear NULL again, then plan the rollback again."
        )
    for row in conn.execute(_CHECKS, given).fetchall():
        broken = SQL("SELECT FROM {} WHERE NOT ({})").format(
            _sample(info, relation, ours), text(row["expression"])
        )
        if _any(conn, broken):
            yield _forbids(f"Constraint {row['name']!r} of {on} forbids NULL")
    for row in conn.execute(_WHOLE_KEYS, given).fetchall():
        yield _forbids(f"Foreign key {row['name']!r} of {on} (MATCH FULL) forbids a single NULL")
    for row in conn.execute(_UNIQUE, given).fetchall():
        keys = [name(f"k{n}") for n in range(len(row["keys"]))]
        clashing = SQL(
            "SELECT FROM (SELECT {} FROM {} WHERE ({})) k WHERE {} OR num_nulls({}) = 0"
            " GROUP BY {} HAVING count(*) > 1"
        ).format(
            comma(
                SQL("{} AS {}").format(text(k), n) for k, n in zip(row["keys"], keys, strict=True)
            ),
            _sample(info, relation, ours),
            text(row["predicate"] or "true"),
            Literal(row["nulls_are_equal"]),
            comma(keys),
            comma(keys),
        )
        if _any(conn, clashing):
            yield _forbids(f"Unique index {row['name']!r} of {on} forbids several NULLs")


def _forbids(what: str) -> str:
    return (
        f"{what} where the run filled a value, so rows could not be given back. Nothing was "
        "changed. Next step: drop it, if the application can bear NULL again, then plan the "
        "rollback again."
    )


def _any(conn: Connection, query: Composed) -> bool:
    found: bool = one(conn, SQL("SELECT EXISTS ({}) AS any").format(query), ())["any"]
    return found


def _sample(info: TableInfo, relation: _Relation, ours: list[str]) -> Composed:
    """Rows that have a value in one of these columns, as they would be without any of them."""
    columns = comma(
        SQL("NULL::{} AS {}").format(text(column.type), name(c)) if c in ours else name(c)
        for c, column in info.columns.items()
    )
    return SQL("(SELECT {} FROM {} WHERE {} LIMIT {}) r").format(
        columns,
        table(relation.table),
        any_of(SQL("{} IS DISTINCT FROM NULL").format(name(c)) for c in ours),
        Literal(SAMPLED_ROWS),
    )


def require_latest(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, acknowledged: Collection[str]
) -> list[str]:
    """What a person has to know of runs that have filled some of the run's rows again, in one of
    its columns, after somebody had emptied it. Raises RunbookError with those that are not
    acknowledged, by their ids: such rows hold values of theirs."""
    table_name = ledger.get_run(conn, run_id).table_name
    known = forgotten.list_forgotten(conn)
    told = {
        other: _filled_again(conn, spec, info, run_id, other)
        for other in ledger.later_runs(conn, run_id, table_name)
    }
    require_none(
        f"{sentence} Nothing was changed. Next step: {_first(other, known)}if what it filled there "
        "may go too, pass "
        f"{printable.extra_variable('rollback_acknowledged', [*acknowledged, other])}."
        for other, sentence in told.items()
        if sentence and other not in acknowledged
    )
    return [f"{sentence} They go too (acknowledged)." for sentence in told.values() if sentence]


def _first(other: str, known: Collection[str]) -> str:
    """What comes before an acknowledgement: roll another run back, unless it is a forgotten one."""
    return "" if other in known else f"roll run {other} back first; or, "


def _filled_again(conn: Connection, spec: Spec, info: TableInfo, run_id: str, other_id: str) -> str:
    """What another run has filled again of a run's rows, in words; nothing where it has not."""
    other = ledger.approved_spec(conn, other_id)
    ours = _places(spec, present_columns(conn, spec, info, run_id))
    theirs = _places(other, present_columns(conn, other, info, other_id))
    both = [column for column in ours if column in theirs]
    if not both:
        return ""
    untold = f"Run {other_id} may have filled rows of run {run_id} again, which nobody can tell"
    if other.waive_rollback or set(other.key) != set(spec.key):
        return f"{untold}."
    if lost := forgotten.list_forgotten(conn, other_id).get(other_id):
        return f"{untold}: {lost.by} forgot its journal, on {lost.at}."
    rows = taken_back.rows_filled_again(
        conn,
        Entries(run_id, tuple(spec.key.index(k) for k in other.key), tuple(ours[c] for c in both)),
        Entries(other_id, tuple(range(len(other.key))), tuple(theirs[c] for c in both)),
    )
    return f"Run {other_id} has filled {rows:,} of the rows of run {run_id} again." if rows else ""


def _places(spec: Spec, names: Mapping[str, str]) -> dict[str, int]:
    """For each column by its present name, where an entry of the journal has its value."""
    width = len(spec.key)
    return {names[c.name]: width + n for n, c in enumerate(spec.columns) if c.name in names}


def require_columns_left(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, acknowledged: Collection[str]
) -> list[str]:
    """What a person has to know of later runs that have renamed or converted a column of this run.
    Raises RunbookError with those that are not acknowledged, by their ids: rolled back after this
    one, they would bring back values that nobody could take back any more."""
    names = present_columns(conn, spec, info, run_id)
    table_name, known = ledger.get_run(conn, run_id).table_name, forgotten.list_forgotten(conn)
    told = {
        other: f"Run {other} has {_DONE[change.kind]} column {change.old!r} of {spec.table}, which "
        f"run {run_id} filled, so its values could not be given back."
        for other, change in ledger.later_changes(conn, run_id, table_name)
        if any(change.old == c.name and c.name not in names for c in spec.columns)
    }
    require_none(
        f"{sentence} Nothing was changed. Next step: {_first(other, known) or _BY_HAND}if the "
        f'values may stay, pass -e \'{{"rollback_acknowledged": ["{other}"]}}\'.'
        for other, sentence in told.items()
        if other not in acknowledged
    )
    return [f"{sentence} They stay (acknowledged)." for sentence in told.values()]


_BY_HAND = (
    "its journal was forgotten, so take its change of the column back by hand, with the undo "
    "statements of its report; or, "
)
_DONE = {"rename": "renamed", "convert": "converted"}


def require_partitions(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, acknowledged: Collection[str]
) -> list[str]:
    """What a person has to know of partitions that the table has no more. Raises RunbookError with
    those that were detached and hold rows of the run, unless they are acknowledged by their names:
    attached again after this rollback, they could not be rolled back any more."""
    gone = filled.partitions_gone(conn, info, run_id)
    held = {each: _rows_held(conn, spec, info, run_id, each.now) for each in gone if each.now}
    told = {
        each.was: f"{each.was} is no partition of {spec.table} any more, and holds {rows} that the "
        "run filled: they would be left alone for good."
        for each, rows in held.items()
        if rows
    }
    require_none(
        f"{sentence} Nothing was changed. Next step: attach it again, roll back, then detach it; "
        f'or, if they may stay, pass -e \'{{"rollback_acknowledged": ["{was}"]}}\'.'
        for was, sentence in told.items()
        if was not in acknowledged
    )
    dropped = [f"{each.was} was dropped, with its rows." for each in gone if not each.now]
    return [*(f"{sentence} (Acknowledged.)" for sentence in told.values()), *dropped]


def _rows_held(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, now: Table | None
) -> str:
    """How many rows of the run a table that was a partition holds, in words; nothing for none."""
    if now is None:
        raise AssertionError("this is asked of tables that are there")
    keys = SQL(" AND ").join(
        SQL("t.{} = (j.e ->> {})::{}").format(name(k), Literal(n), text(info.columns[k].type))
        for n, k in enumerate(spec.key)
    )
    query = SQL("SELECT count(*) AS n FROM ({}) j JOIN {} t ON {}").format(
        ledger.standing_entries(Literal(run_id)), table(now), keys
    )
    try:
        with conn.transaction():
            rows: int = one(conn, query, ())["n"]
    except psycopg.Error as error:
        raise_if_lost(error)
        return "rows, as many as nobody can tell,"
    return f"{rows:,} rows" if rows else ""


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
