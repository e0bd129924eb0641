# SPDX-License-Identifier: GPL-3.0-or-later
"""An index on a partitioned table, which PostgreSQL builds only in parts without blocking writers.

First an index on the table alone, which is INVALID and costs nothing, but which every partition
that is made from then on has a part of. Then one on each partition, concurrently. Then each of
these is attached to the index above it, and with the last one that is valid. What is broken off
goes on: every part that is there is found again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count, groupby
from typing import Any

from psycopg.sql import SQL, Composed

from .. import catalog, ledger
from ..catalog import IndexInfo, Partition, TableInfo
from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.locks import patient, with_lock_retries
from ..core.spec import Index, Spec, Table
from ..core.spec_checks import MOST_NAME_BYTES
from ..core.sql import comma, expression, name, render, table, text
from ..core.window import window_closed

LOCK = (
    "SHARE on the partitioned table, which keeps writers out, and ACCESS EXCLUSIVE on the index of "
    "a partition while it is attached: both for a change of the catalog only, and waited for with "
    "a lock_timeout. While a partition's index is built, reads and writes go on. Undone under "
    "ACCESS EXCLUSIVE on the table and all its partitions, for a change of the catalog only"
)
DROP_LOCK = (
    "ACCESS EXCLUSIVE on the partitioned table and all its partitions, for a change of the catalog "
    "only, waited for with a lock_timeout; where a partition's index is built again, SHARE UPDATE "
    "EXCLUSIVE on that partition"
)
DROP, TOP, PARENT, BUILD, ATTACH = "drop", "top", "parent", "build", "attach"
_IN_ORDER = (DROP, TOP, PARENT, BUILD, ATTACH)


@dataclass(frozen=True)
class Part:
    """One statement, on one partition or on the table itself, whose oid is on. index is the index
    that it makes or takes away, as the ledger has its name; definition is what an index that is
    attached was made with, where it is not the run's own; pages is how much is read."""

    kind: str
    statement: Composed
    on: int
    index: str
    definition: str = ""
    pages: int = 0


def create(on: Table, index: Index, *, called: str = "", how: str = "CONCURRENTLY ") -> Composed:
    """The CREATE INDEX of an index of the phase, on the table or, under another name, on one of
    its partitions."""
    method = SQL(" USING {}").format(name(index.method)) if index.method != "btree" else SQL("")
    include = (
        SQL(" INCLUDE ({})").format(comma(name(c) for c in index.include))
        if index.include
        else SQL("")
    )
    where = SQL(" WHERE {}").format(expression(index.where)) if index.where else SQL("")
    return SQL("CREATE INDEX {}{} ON {}{}{} ({}){}{}").format(
        SQL(how if how != "ONLY " else ""),
        name(called or index.name),
        SQL("ONLY " if how == "ONLY " else ""),
        table(on),
        method,
        comma(name(c) for c in index.columns),
        include,
        where,
    )


def drop(on: Table, index: str) -> Composed:
    """The statement that drops an index of a partitioned table, and of its partitions with it."""
    return SQL("DROP INDEX {}").format(name(on.schema, index))


def plan(
    conn: Connection,
    spec: Spec,
    index: Index,
    info: TableInfo,
    taken: set[tuple[str, str]],
    same: Callable[[IndexInfo], bool],
) -> list[Part]:
    """What is left to do until the index is there and valid. taken has what bears a name, as pairs
    of schema and name, and gains those of the parts; same tells whether an index is like this one.

    Raises RunbookError where the index of a partition is INVALID and cannot be replaced.
    """
    ours = ledger.parts_made(conn, str(spec.table))
    top = info.indexes.get(index.name)
    at = {info.oid: top.oid if top else 0}
    called = {info.oid: name(spec.table.schema, index.name)}
    parts = []
    if not top:
        statement = create(spec.table, index, how="ONLY ")
        parts.append(Part(TOP, statement, info.oid, render(called[info.oid])))
    for partition in info.partitions:
        attached = _attached(partition, at[partition.above])
        if attached:
            found, there = attached
            at[partition.oid] = there.oid
            called[partition.oid] = name(partition.table.schema, found)
            if not there.valid and not partition.partitioned:
                raise _invalid(partition, found, index)
            continue
        new, definition, made = _made(index, partition, taken, same, ours)
        at[partition.oid] = partition.indexes[new].oid if new in partition.indexes else 0
        called[partition.oid] = name(partition.table.schema, new)
        attach = SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
            called[partition.above], called[partition.oid]
        )
        qualified = render(called[partition.oid])
        parts += [*made, Part(ATTACH, attach, partition.oid, qualified, definition)]
    if not parts:
        raise RunbookError(
            f"Index {index.name!r} of {spec.table} is INVALID, although every partition has its "
            "part of it. Next step: drop it by hand and run again, which builds it anew."
        )
    return sorted(parts, key=lambda part: _IN_ORDER.index(part.kind))


def alike(parts: Iterable[Part]) -> list[int]:
    """How many statements in a row differ in the partition only, for all of the parts in turn."""
    return [len(list(group)) for _, group in groupby(parts, key=lambda part: part.kind)]


def alike_rests(left: Iterable[Rest]) -> list[int]:
    """The same for the statements of rest(): those that drop, and those that build again."""
    return [
        sum(len(each.statements) for each in group)
        for _, group in groupby(left, key=lambda each: each.change["kind"])
    ]


def undo(on: Table, index: Index, parts: Iterable[Part]) -> str:
    """The statements that take the index back, and those that build again what was there of it."""
    again = [concurrently(part.definition) for part in parts if part.definition]
    return ";\n".join([render(drop(on, index.name)), *again])


def concurrently(definition: str) -> str:
    """The catalog's definition of an index, as a statement that does not block writers."""
    return definition.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)


def build(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, index: Index, parts: list[Part]
) -> None:
    """Do the parts, each as soon as its lock is to be had.

    What is built stays where a later part fails: the next run goes on from there, and a rollback
    takes it back. Raises RunbookError where the index is not valid in the end.
    """
    begun = {change["new"] for change in ledger.list_changes(conn, run.id, "index_build")}
    with conn.transaction():
        if index.name not in begun:
            ledger.change_made(conn, run.id, "index_build", old="", new=index.name)
            if index.name in info.indexes:
                _note_attached(conn, spec, catalog.with_partitions(conn, info), run, index)
    try:
        for number, part in enumerate(parts):
            _require_open_window(spec, index, number, len(parts))
            with_lock_retries(
                conn,
                _doing(conn, run, part),
                table_oid=part.on,
                what=render(part.statement),
                tries=2 if part.kind in (DROP, BUILD) else spec.lock_tries,
            )
    except BaseException:
        if not conn.closed and index.name not in catalog.inspect(conn, spec.table).indexes:
            ledger.change_undone(conn, run.id, "index_build", old="", new=index.name)
        raise
    left = catalog.inspect(conn, spec.table).indexes.get(index.name)
    if left is None or not left.valid:
        raise RunbookError(
            f"Index {index.name!r} of {spec.table} is not valid, although each partition's index "
            "was attached: a partition was made meanwhile. What was built is kept. Next step: run "
            "the playbook again, which builds what is missing."
        )


def undone(conn: Connection, run_id: str) -> None:
    """Record that the indexes of partitions are gone which went with the index above them."""
    built = [change["new"] for change in ledger.list_changes(conn, run_id, ledger.INDEX_PART)]
    for index in {*built} - _there(conn, built).keys():
        ledger.part_undone(conn, run_id, ledger.INDEX_PART, new=index)


@dataclass(frozen=True)
class Rest:
    """What a rollback does for the index of a partition that the drop of the whole one does not
    do: statements that drop what the run built and did not attach, or that build again what it
    found and attached."""

    change: dict[str, Any]
    statements: tuple[SQL | Composed, ...]


def rest(conn: Connection, run_id: str) -> list[Rest]:
    """What is left of a run's indexes of partitions, besides those that go with the whole one."""
    built = ledger.list_changes(conn, run_id, ledger.INDEX_PART)
    found = ledger.list_changes(conn, run_id, ledger.INDEX_ATTACHED)
    there = _there(conn, [change["new"] for change in (*built, *found)])
    drops = [
        Rest(change, (_drop_alone(change["new"], there[change["new"]]),))
        for change in built
        if change["new"] in there and not there[change["new"]]["parent"]
    ]
    again = []
    for change in found:
        now = there.get(change["new"])
        if now and not now["parent"] and now["valid"]:
            continue
        broken = [_drop_alone(change["new"], now)] if now and not now["parent"] else []
        again.append(Rest(change, (*broken, text(concurrently(change["old"])))))
    return [*drops, *again]


def take_rest_back(conn: Connection, run_id: str, left: Rest) -> None:
    """Run the statements of rest(), and record that."""
    with patient(conn) as other:
        for statement in left.statements:
            other.execute(statement, ())
    ledger.part_undone(conn, run_id, left.change["kind"], new=left.change["new"])


def leaf_name(partition: str, columns: Iterable[str], number: str = "") -> str:
    """The name that PostgreSQL would give to an index of a partition (makeObjectName() and
    ChooseIndexNameAddition() in src/backend/commands/indexcmds.c)."""
    first, second = partition.encode(), "_".join(columns).encode()
    room = MOST_NAME_BYTES - len(f"__idx{number}")
    while len(first) + len(second) > room:
        if len(first) > len(second):
            first = first[:-1]
        else:
            second = second[:-1]
    kept = (part.decode(errors="ignore") for part in (first, second))
    return f"{'_'.join(kept)}_idx{number}"


def _attached(partition: Partition, above: int) -> tuple[str, IndexInfo] | None:
    """The partition's part of the index above, whose oid is given; None where it has none."""
    parts = ((n, i) for n, i in partition.indexes.items() if above and i.parent == above)
    return next(parts, None)


def _made(
    index: Index,
    partition: Partition,
    taken: set[tuple[str, str]],
    same: Callable[[IndexInfo], bool],
    ours: set[str],
) -> tuple[str, str, list[Part]]:
    """The name of the partition's index, what it was made with if it is there and not ours, and
    the parts that make it if it is not."""
    on = partition.table
    alone = {
        n: i
        for n, i in sorted(partition.indexes.items())
        if not i.parent and not i.unique and same(i)
    }
    for found, there in alone.items():
        own = render(name(on.schema, found)) in ours
        if own and (there.valid or partition.partitioned):
            return found, "", []
    if partition.partitioned:
        new = _free_name(index, on, taken)
        statement = create(on, index, called=new, how="ONLY ")
        return new, "", [Part(PARENT, statement, partition.oid, render(name(on.schema, new)))]
    for found, there in alone.items():
        if there.valid and there.replaceable:
            return found, there.definition, []
    broken = {n for n, i in alone.items() if not i.valid}
    new = _free_name(index, on, taken, broken)
    qualified = name(on.schema, new)
    leftover = SQL("DROP INDEX CONCURRENTLY {}").format(qualified)
    drops = [Part(DROP, leftover, partition.oid, render(qualified))] if new in broken else []
    statement = create(on, index, called=new)
    builds = Part(BUILD, statement, partition.oid, render(qualified), pages=partition.pages)
    return new, "", [*drops, builds]


def _free_name(
    index: Index, on: Table, taken: set[tuple[str, str]], broken: Collection[str] = ()
) -> str:
    """A name that nothing in the partition's schema bears, or only what is broken."""
    columns = [*index.columns, *index.include]
    numbers = ("" if n == 0 else str(n) for n in count())
    names = (leaf_name(on.name, columns, number) for number in numbers)
    new = next(n for n in names if n in broken or (on.schema, n) not in taken)
    taken.add((on.schema, new))
    return new


def _invalid(partition: Partition, found: str, index: Index) -> RunbookError:
    again = render(name(partition.table.schema, found))
    return RunbookError(
        f"Index {found!r} of {partition.table} is INVALID and already a part of {index.name!r}, so "
        f"it cannot be replaced. Next step: REINDEX INDEX CONCURRENTLY {again}, then run again."
    )


def _note_attached(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, index: Index
) -> None:
    """Record which parts an index that was there INVALID had already, apart from ours: they will go
    with it when that is taken back."""
    ours = ledger.parts_made(conn, str(spec.table))
    known = {c["new"] for c in ledger.list_changes(conn, run.id, ledger.INDEX_ATTACHED)}
    above = {info.indexes[index.name].oid}
    for partition in info.partitions:
        for found, there in partition.indexes.items():
            if there.parent not in above:
                continue
            above.add(there.oid)
            new = render(name(partition.table.schema, found))
            if not partition.partitioned and new not in ours | known:
                ledger.part_made(conn, run.id, ledger.INDEX_ATTACHED, old=there.definition, new=new)


def _require_open_window(spec: Spec, index: Index, done: int, parts: int) -> None:
    if window_closed(spec):
        raise RunbookError(
            f"The maintenance window ended at {spec.window_end}, with {done} of {parts} statements "
            f"for index {index.name!r} done. They are kept. Next step: set phase_window_end to the "
            "end of the next window and run again, which goes on there."
        )


def _doing(conn: Connection, run: ledger.Run, part: Part) -> Callable[[], None]:
    def in_one_transaction() -> None:
        with conn.transaction():
            conn.execute(part.statement, ())
            if part.kind == PARENT:
                ledger.part_made(conn, run.id, ledger.INDEX_PART, old="", new=part.index)
            elif part.definition:
                ledger.part_made(
                    conn, run.id, ledger.INDEX_ATTACHED, old=part.definition, new=part.index
                )

    def concurrently_built() -> None:
        ledger.part_made(conn, run.id, ledger.INDEX_PART, old="", new=part.index)
        try:
            _patiently(conn, part.statement)
        except BaseException:
            if not conn.closed:
                _drop_broken(conn, part.index)
                ledger.part_undone(conn, run.id, ledger.INDEX_PART, new=part.index)
            raise

    def dropped() -> None:
        _patiently(conn, part.statement)

    return {DROP: dropped, BUILD: concurrently_built}.get(part.kind, in_one_transaction)


def _drop_broken(conn: Connection, index: str) -> None:
    now = _there(conn, [index]).get(index)
    if now and not now["valid"]:
        _patiently(conn, _drop_alone(index, now))


def _drop_alone(index: str, now: Mapping[str, Any]) -> Composed:
    """The drop of an index that is no part of another one. One on a partitioned table cannot be
    dropped concurrently."""
    how = SQL("" if now["partitioned"] else "CONCURRENTLY ")
    return SQL("DROP INDEX {}{}").format(how, text(index))


def _there(conn: Connection, indexes: list[str]) -> dict[str, dict[str, Any]]:
    """Of these indexes those that are there: valid, partitioned, and parent, the oid of the index
    above or 0."""
    rows = conn.execute(
        "SELECT n AS name, i.indisvalid AND i.indisready AS valid,"
        " c.relkind = 'I' AS partitioned, coalesce(h.inhparent::int8, 0) AS parent"
        " FROM unnest(%s::text[]) n JOIN pg_class c ON c.oid = to_regclass(n)"
        " JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_inherits h ON h.inhrelid = c.oid",
        (indexes,),
    )
    return {row["name"]: row for row in rows}


def _patiently(conn: Connection, statement: Composed) -> None:
    with patient(conn) as other:
        other.execute(statement, ())
