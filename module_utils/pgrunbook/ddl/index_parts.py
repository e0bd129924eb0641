# SPDX-License-Identifier: GPL-3.0-or-later
"""An index on a partitioned table is built in parts: only so does PostgreSQL block no writer.

First comes an index on the table alone. It is INVALID and costs nothing, but every partition that
is made from then on gets its part of it. Then each partition gets its index, built concurrently.
Last, each of these is attached to the index above it; with the last one, that becomes valid. A
build that was broken off goes on: it finds every part that is there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import count, groupby

from psycopg.sql import SQL, Composed

from .. import catalog, ledger
from ..catalog import IndexInfo, Partition, TableInfo
from ..core.connection import Connection
from ..core.errors import RunbookError, unanswered
from ..core.locks import run_patiently, with_lock_retries
from ..core.spec import Index, Spec, Table
from ..core.spec_checks import MAX_NAME_BYTES
from ..core.sql import drop_index, name, render, text
from ..core.window import window_closed
from .index_sql import concurrently, create, drop

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
    """One statement of a build. on is the oid of the partition, or of the whole table. index is
    what the statement makes, drops or attaches, as the ledger has its name. definition is what an
    attached index was made with, where the run did not make it. pages is how much is read."""

    kind: str
    statement: Composed
    on: int
    index: str
    definition: str = ""
    pages: int = 0


def plan(
    conn: Connection,
    spec: Spec,
    index: Index,
    info: TableInfo,
    taken: set[tuple[str, str]],
    same: Callable[[IndexInfo], bool],
) -> list[Part]:
    """What is left to do until the index is there and valid. taken has the names in use, as pairs
    of schema and name; those of new parts are added. same tells whether an index is like this one.

    Raises RunbookError where the index of a partition is INVALID and cannot be replaced.
    """
    ours = ledger.parts_made(conn, str(spec.table))
    top = info.indexes.get(index.name)
    at = {info.oid: top.oid if top else 0}
    called = {info.oid: name(spec.table.schema, index.name)}
    made = Part(TOP, create(spec.table, index, only=True), info.oid, render(called[info.oid]))
    parts = [] if top else [made]
    for partition in info.partitions:
        attached = _attached(partition, at[partition.above])
        if attached:
            found, there = attached
            at[partition.oid] = there.oid
            called[partition.oid] = name(partition.table.schema, found)
            if not there.valid and not partition.partitioned:
                raise _invalid(partition, found, index)
            continue
        new, definition, builds = _made(index, partition, taken, same, ours)
        at[partition.oid] = partition.indexes[new].oid if new in partition.indexes else 0
        called[partition.oid] = name(partition.table.schema, new)
        attach = SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
            called[partition.above], called[partition.oid]
        )
        qualified = render(called[partition.oid])
        parts += [*builds, Part(ATTACH, attach, partition.oid, qualified, definition)]
    if not parts:
        raise _whole_but_invalid(spec.table, index)
    return sorted(parts, key=lambda part: _IN_ORDER.index(part.kind))


def alike(parts: Iterable[Part]) -> list[int]:
    """How many statements in a row differ in the partition only, for all of the parts in turn."""
    return [len(list(group)) for _, group in groupby(parts, key=lambda part: part.kind)]


def undo(on: Table, index: Index, parts: Iterable[Part]) -> tuple[SQL | Composed, ...]:
    """The statements that drop the index, and those that build again what was there of it."""
    again = (text(concurrently(part.definition)) for part in parts if part.definition)
    return (drop(on, index.name, concurrently=False), *again)


def build(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, index: Index, parts: list[Part]
) -> None:
    """Do the parts in turn, each once its lock is free.

    Where a part fails, the earlier ones stay: the next run goes on from there, and a rollback takes
    them back. Raises RunbookError where the index is not valid in the end.
    """
    begun = {change.new for change in ledger.list_changes(conn, run.id, "index_build")}
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


def leaf_name(partition: str, columns: Iterable[str], number: str = "") -> str:
    """The name that PostgreSQL would give to an index of a partition (makeObjectName() and
    ChooseIndexNameAddition() in src/backend/commands/indexcmds.c)."""
    first, second = partition.encode(), "_".join(columns).encode()
    room = MAX_NAME_BYTES - len(f"__idx{number}")
    while len(first) + len(second) > room:
        if len(first) > len(second):
            first = first[:-1]
        else:
            second = second[:-1]
    kept = (part.decode(errors="ignore") for part in (first, second))
    return f"{'_'.join(kept)}_idx{number}"


def _attached(partition: Partition, above: int) -> tuple[str, IndexInfo] | None:
    """The partition's part of the index with the oid above; None where it has none."""
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
        statement = create(on, index, called=new, only=True)
        return new, "", [Part(PARENT, statement, partition.oid, render(name(on.schema, new)))]
    for found, there in alone.items():
        if there.valid and there.replaceable:
            return found, there.definition, []
    broken = {n for n, i in alone.items() if not i.valid}
    new = _free_name(index, on, taken, broken)
    qualified = name(on.schema, new)
    leftover = Part(DROP, drop_index(qualified), partition.oid, render(qualified))
    drops = [leftover] if new in broken else []
    statement = create(on, index, called=new)
    builds = Part(BUILD, statement, partition.oid, render(qualified), pages=partition.pages)
    return new, "", [*drops, builds]


def _free_name(
    index: Index, on: Table, taken: set[tuple[str, str]], broken: Collection[str] = ()
) -> str:
    """A name that is free in the partition's schema, or that only a broken index has."""
    columns = [*index.columns, *index.include]
    numbers = ("" if n == 0 else str(n) for n in count())
    names = (leaf_name(on.name, columns, number) for number in numbers)
    new = next(n for n in names if n in broken or (on.schema, n) not in taken)
    taken.add((on.schema, new))
    return new


def _whole_but_invalid(on: Table, index: Index) -> RunbookError:
    return RunbookError(
        f"Index {index.name!r} of {on} is INVALID, although every partition has its part of it. "
        "Next step: drop it by hand and run again, which builds it anew."
    )


def _invalid(partition: Partition, found: str, index: Index) -> RunbookError:
    again = render(name(partition.table.schema, found))
    return RunbookError(
        f"Index {found!r} of {partition.table} is INVALID and already a part of {index.name!r}, so "
        f"it cannot be replaced. Next step: REINDEX INDEX CONCURRENTLY {again}, then run again."
    )


def _note_attached(
    conn: Connection, spec: Spec, info: TableInfo, run: ledger.Run, index: Index
) -> None:
    """Record which parts an INVALID index had before, apart from ours: when a rollback drops it,
    they go with it, and have to be built again."""
    ours = ledger.parts_made(conn, str(spec.table))
    known = {c.new for c in ledger.list_changes(conn, run.id, ledger.INDEX_ATTACHED)}
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
            run_patiently(conn, part.statement)
        except BaseException as error:
            if not conn.closed and not unanswered(error):
                _drop_broken(conn, part.index)
                ledger.part_undone(conn, run.id, ledger.INDEX_PART, new=part.index)
            raise

    def dropped() -> None:
        run_patiently(conn, part.statement)

    return {DROP: dropped, BUILD: concurrently_built}.get(part.kind, in_one_transaction)


def _drop_broken(conn: Connection, index: str) -> None:
    now = part_indexes(conn, [index]).get(index)
    if now and not now.valid:
        run_patiently(conn, now.drop)


@dataclass(frozen=True)
class PartIndex:
    """The index of a partition as it is now, with its name as the ledger has it. above is the oid
    of the index that it is a part of, or 0."""

    name: str
    valid: bool
    partitioned: bool
    above: int

    @property
    def drop(self) -> Composed:
        """The statement that drops it. The server refuses that for a part of another index."""
        return drop_index(text(self.name), concurrently=not self.partitioned)


def part_indexes(conn: Connection, names: list[str]) -> dict[str, PartIndex]:
    """The indexes of partitions that are there, of those with these names."""
    rows = conn.execute(
        "SELECT n AS name, i.indisvalid AND i.indisready AS valid,"
        " c.relkind = 'I' AS partitioned, coalesce(h.inhparent::int8, 0) AS above"
        " FROM unnest(%s::text[]) n JOIN pg_class c ON c.oid = to_regclass(n)"
        " JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_inherits h ON h.inhrelid = c.oid",
        (names,),
    )
    return {row["name"]: PartIndex(**row) for row in rows}
