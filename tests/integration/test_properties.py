# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every table, whatever the application does meanwhile and wherever a run stops.

Hypothesis draws a table with its source, the settings of the phase, and a script: slices of the
backfill, takeovers by another execution, and what the application does between them. After each
slice every row is compared with what one UPDATE would have made of it, and with the journal.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from ansible.module_utils.pgrunbook import backfill, ledger, revert, spec
from ansible.module_utils.pgrunbook.connection import Connection, connect
from tests.integration.conftest import Database
from tests.integration.steps import Module, Result, Steps

FOR_CI = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)

SCHEMA = "lab"
NOTHING = SQL("NULL")
MOST_ROWS = 300

NAMES = (
    *("a", "b", "c", "d", "e", "f", "g", "h"),
    *('Weird "Key"', "100% %s %(x)s", "ключ é", "{0} {}", "it's \\ --;"),
    *("t", "s", "p", "v0", "v1", "k0", "k1", "tid", "entry", "picked", "filled", "tableOID"),
)
VALUES = {
    "integer": ("0", "7", "-2147483648"),
    "text": ("x", "", "null", 'it\'s \\ "q" %s {0}\n', "é"),
    "varchar(3)": ("x", "", "ééé", "a b"),
    "char(4)": ("x", "", " y"),
    "jsonb": ("null", '"null"', '{"a": null}', '[1.0, "é\\n"]'),
    "json": ("null", '{"b":1,  "a":2}'),
    "timestamptz": ("2024-03-31 00:59:59.999999+00", "infinity", "0044-03-15 12:00:00+00 BC"),
    "numeric": ("1", "1.10", "NaN", "-0.00000000000000000001"),
    "double precision": ("0.1", "-0", "NaN", "-Infinity", "1e-310"),
    "boolean": ("true", "false"),
    "text[]": ("{}", '{NULL,"NULL","a,\\"b\\"",""}', "[2:3]={x,y}"),
    "interval": ("1 mon -1 day +00:00:00.1", "-1 year"),
    "bytea": ("\\x", "\\x00ff"),
}
KEYS: dict[str, Callable[[int], str]] = {
    "integer": lambda n: str(n * 7 - 1000),
    "bigint": lambda n: str((n - 100) * 2**40),
    "text": lambda n: f'{n} é "q" {{a,b}} \\ %s',
    "uuid": lambda n: str(uuid.UUID(hashlib.md5(str(n).encode()).hexdigest())),
    "timestamptz": lambda n: f"2024-03-31 00:{n // 60 % 60:02}:{n % 60:02}.{n:06}+00",
    "char(5)": lambda n: f"{n:x}",
}
GROUPS = ("", "NULL", 'a,"b"', "{\\", "é%s")
"""Values of the first column of a composite key, which is text."""


@dataclass(frozen=True)
class Field:
    name: str
    type: str


@dataclass(frozen=True)
class Row:
    """Which of the source's rows a row refers to, if any, and the values that it has."""

    source: int | None
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Table:
    """A table before the run, with so many copies of each of the rows. sources has the values of
    the source's rows; a row that refers to a later one has no source."""

    name: str
    key: tuple[Field, ...]
    columns: tuple[Field, ...]
    reference: tuple[Field, ...]
    rows: tuple[Row, ...]
    copies: int
    source_name: str
    source_key: tuple[Field, ...]
    source_columns: tuple[Field, ...]
    sources: tuple[tuple[str | None, ...], ...]
    partitioned_by: str
    fillfactor: int
    padding: int
    analyzed: bool


@dataclass(frozen=True)
class Way:
    """The variables of the phase that say how the backfill works."""

    strategy: str
    workers: int
    batch_rows: int
    batch_target_ms: int


# What a script is made of, one after another. which picks the rows whose number % 7 it is.


@dataclass(frozen=True)
class Slice:
    """The run works, until each worker has done something."""


@dataclass(frozen=True)
class TakeOver:
    """The execution is no more: it died, or it said that it failed. The next one works so."""

    died: bool
    way: Way


@dataclass(frozen=True)
class Insert:
    row: Row
    copies: int


@dataclass(frozen=True)
class Delete:
    which: int


@dataclass(frozen=True)
class Note:
    """Change a column that the phase does not fill."""

    which: int


@dataclass(frozen=True)
class Write:
    """Give a column of the phase a value, or take it away."""

    which: int
    column: int
    value: str | None


@dataclass(frozen=True)
class ChangeKey:
    which: int


@dataclass(frozen=True)
class Refer:
    """Let rows refer to another row of the source, or to none."""

    which: int
    source: int | None


@dataclass(frozen=True)
class ChangeSource:
    """Let a row of the source have these values, whether it was there or not; None deletes it."""

    source: int
    values: tuple[str | None, ...] | None


Change = Insert | Delete | Note | Write | ChangeKey | Refer | ChangeSource
Script = tuple[Slice | TakeOver | Change, ...]


@dataclass(frozen=True)
class Stored:
    """A row as the server has it, as texts: the key, the phase's columns, all others."""

    key: tuple[str, ...]
    values: tuple[str | None, ...]
    rest: tuple[str | None, ...]


Rows = dict[int, Stored]  # by number, which tells rows apart whatever becomes of their keys


@dataclass(frozen=True)
class Entry:
    """An entry of the journal: the row that it is about, its key then, the values written."""

    number: int
    key: tuple[str, ...]
    written: tuple[str | None, ...]


@dataclass(frozen=True)
class Batch:
    reverted: bool
    journal: list[Entry]
    left_alone: list[Entry]


class Lab:
    """A table on the server, and what the application does to it.

    before has each row as it was when it was inserted; touched, the numbers of those in which the
    application has changed a column of the phase or the key.
    """

    def __init__(self, database: Database, table: Table) -> None:
        self.shape = table
        self.table = Identifier(SCHEMA, table.name)
        self.source = Identifier(SCHEMA, table.source_name)
        self.app = database.connect()
        self.app.prepare_threshold = None
        self.numbers: dict[tuple[str, ...], int] = {}
        self.before: Rows = {}
        self.touched: set[int] = set()
        self._next = 0

    def create(self) -> None:
        """Make the table, its source and their rows, where the last example's were."""
        shape, of = self.shape, {"table": self.table, "source": self.source}
        self.app.execute(f"DROP SCHEMA IF EXISTS {SCHEMA}, pgrunbook CASCADE")
        self.app.execute(f"CREATE SCHEMA {SCHEMA}")
        fields = (*shape.key, *shape.columns, *shape.reference)
        own = [Field("number", "integer"), Field("note", "integer"), Field("padding", "text")]
        by = SQL("")
        if shape.partitioned_by:
            by = SQL("PARTITION BY {} ({})").format(
                SQL(shape.partitioned_by), Identifier(shape.key[0].name)
            )
        self.app.execute(
            SQL("CREATE TABLE {table} ({columns}, PRIMARY KEY ({key})) {by}").format(
                **of, columns=_definitions([*own, *fields]), key=_names(shape.key), by=by
            )
        )
        for statement in self._leaves([*own, *fields]):
            self.app.execute(statement)
        self.app.execute(
            SQL("CREATE TABLE {source} ({columns}, UNIQUE ({key}))").format(
                **of,
                columns=_definitions([*shape.source_key, *shape.source_columns]),
                key=_names(shape.source_key),
            )
        )
        for number, values in enumerate(shape.sources):
            self.apply(ChangeSource(number, values))
        unset = SQL("INSERT INTO {source} DEFAULT VALUES").format(**of)
        self.app.execute(unset)  # a source row without a key
        for row in shape.rows:
            self.apply(Insert(row, shape.copies))
        if shape.analyzed:
            self.app.execute(SQL("ANALYZE {table}").format(**of))

    def _leaves(self, fields: list[Field]) -> Iterator[Composed]:
        """Partitions; one of them was made apart, with its columns in another order."""
        fill = SQL("WITH (fillfactor = {})").format(Literal(self.shape.fillfactor))
        if not self.shape.partitioned_by:
            yield SQL("ALTER TABLE {} SET (fillfactor = {})").format(
                self.table, Literal(self.shape.fillfactor)
            )
            return
        bounds = [
            SQL("FOR VALUES WITH (MODULUS 3, REMAINDER {})").format(Literal(n)) for n in range(3)
        ]
        if self.shape.partitioned_by == "LIST":
            first = [self._key(n)[0] for n in range(2)]
            bounds = [
                *(SQL("FOR VALUES IN ({})").format(Literal(k)) for k in first),
                SQL("DEFAULT"),
            ]
        for number, bound in enumerate(bounds):
            leaf = Identifier(SCHEMA, f"leaf {number}%")
            if number:
                yield SQL("CREATE TABLE {} PARTITION OF {} {} {}").format(
                    leaf, self.table, bound, fill
                )
                continue
            key = _comma(
                SQL("ALTER {} SET NOT NULL").format(Identifier(k.name)) for k in self.shape.key
            )
            yield SQL("CREATE TABLE {} ({}) {}").format(leaf, _definitions(fields[::-1]), fill)
            yield SQL("ALTER TABLE {} {}").format(leaf, key)
            yield SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(self.table, leaf, bound)

    def _key(self, number: int) -> tuple[str, ...]:
        last = KEYS[self.shape.key[-1].type](number)
        return (GROUPS[number % len(GROUPS)], last)[-len(self.shape.key) :]

    def _reference(self, source: int | None) -> tuple[str | None, ...]:
        texts = (None, None) if source is None else (str(source), f"s{source}")
        return texts[: len(self.shape.reference)]

    def apply(self, change: Change) -> None:
        """Do what the application does."""
        match change:
            case Insert(row, copies):
                self._insert(row, copies)
            case ChangeSource(source, values):
                self._change_source(source, values)
            case Delete(which):
                for number in self._picked(which):
                    self.delete(number)
            case Note(which):
                for number in self._picked(which):
                    self.add_note(number)
            case Write(which, column, value):
                for number in self._picked(which):
                    self.write(number, column, value)
            case Refer(which, source):
                values = list(zip(self.shape.reference, self._reference(source), strict=True))
                for number in self._picked(which):
                    self._set(number, values)
            case ChangeKey(which):
                for number in self._picked(which):
                    self.change_key(number)

    def add_note(self, number: int) -> bool:
        """Change a column that the phase does not fill. Whether the row is there."""
        query = SQL("UPDATE {} SET note = note + 1 WHERE number = {}")
        return self.app.execute(query.format(self.table, Literal(number))).rowcount == 1

    def write(self, number: int, column: int, value: str | None) -> str | None:
        """Write a value to one of the phase's columns; the value as it is stored."""
        self.touched.add(number)
        field = self.shape.columns[column]
        row = self._set(number, [(field, value)], SQL("{}::text").format(Identifier(field.name)))
        stored: str | None = row["result"]
        return stored

    def delete(self, number: int) -> None:
        self.touched.add(number)
        query = SQL("DELETE FROM {} WHERE number = {}")
        self.app.execute(query.format(self.table, Literal(number)))

    def change_key(self, number: int) -> None:
        self.touched.add(number)
        self._next += 1
        fields = self.shape.key
        values = list(zip(fields, self._key(self._next - 1), strict=True))
        row = self._set(number, values, _texts(fields))
        if row:
            self.numbers[tuple(row["result"])] = number

    def _picked(self, which: int) -> list[int]:
        query = SQL("SELECT number FROM {} WHERE number % 7 = {}")
        return [r["number"] for r in self.app.execute(query.format(self.table, Literal(which)))]

    def _set(
        self,
        number: int,
        values: list[tuple[Field, str | None]],
        returning: Composable = NOTHING,
    ) -> dict[str, Any]:
        """Give columns of a row these values; the row's result, empty if it is not there."""
        row = self.app.execute(
            SQL("UPDATE {} SET {} WHERE number = {} RETURNING {} AS result").format(
                self.table,
                _comma(_equal(f, v) for f, v in values),
                Literal(number),
                returning,
            )
        ).fetchone()
        return row or {}

    def _insert(self, row: Row, copies: int) -> None:
        numbers = range(self._next, self._next + copies)
        self._next += copies
        fields = (*self.shape.key, *self.shape.columns, *self.shape.reference)
        same = (*row.values, *self._reference(row.source))
        rows = [
            SQL("({}, 0, repeat('-', {}), {})").format(
                Literal(number),
                Literal(self.shape.padding),
                _comma(
                    _value(f, v) for f, v in zip(fields, (*self._key(number), *same), strict=True)
                ),
            )
            for number in numbers
        ]
        self.app.execute(
            SQL("INSERT INTO {} (number, note, padding, {}) VALUES {}").format(
                self.table, _names(fields), _comma(rows)
            )
        )
        self.before |= {n: row for n, row in self.rows().items() if n in numbers}

    def _change_source(self, source: int, values: tuple[str | None, ...] | None) -> None:
        keys = list(zip(self.shape.source_key, self._reference(source), strict=True))
        self.app.execute(
            SQL("DELETE FROM {} WHERE {}").format(
                self.source, SQL(" AND ").join(_equal(k, v) for k, v in keys)
            )
        )
        if values is not None:
            pairs = [*keys, *zip(self.shape.source_columns, values, strict=True)]
            self.app.execute(
                SQL("INSERT INTO {} ({}) VALUES ({})").format(
                    self.source,
                    _names(f for f, _ in pairs),
                    _comma(_value(f, v) for f, v in pairs),
                )
            )

    def rows(self, of: Composable | None = None) -> Rows:
        """Every row of the table, or of a copy."""
        rest = [Field("note", ""), Field("padding", ""), *self.shape.reference]
        found = self.app.execute(
            SQL("SELECT number, {} AS key, {} AS values, {} AS rest FROM {}").format(
                _texts(self.shape.key), _texts(self.shape.columns), _texts(rest), of or self.table
            )
        ).fetchall()
        rows = {
            row["number"]: Stored(tuple(row["key"]), tuple(row["values"]), tuple(row["rest"]))
            for row in found
        }
        self.numbers |= {row.key: number for number, row in rows.items()}
        return rows

    def one_update(self) -> Rows:
        """What a single UPDATE makes of a copy of the table as it is now."""
        sets = _comma(
            SQL("{c} = coalesce(t.{c}, s.{v})").format(c=Identifier(c.name), v=Identifier(v.name))
            for c, v in zip(self.shape.columns, self.shape.source_columns, strict=True)
        )
        matches = SQL(" AND ").join(
            SQL("t.{} = s.{}").format(Identifier(r.name), Identifier(k.name))
            for r, k in zip(self.shape.reference, self.shape.source_key, strict=True)
        )
        copy = Identifier("pg_temp", "copied")
        with self.app.transaction():
            self.app.execute(
                SQL("CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM {}").format(
                    self.table
                )
            )
            self.app.execute(
                SQL("UPDATE {} t SET {} FROM {} s WHERE {}").format(
                    copy, sets, self.source, matches
                )
            )
            return self.rows(copy)

    def batches(self) -> dict[int, Batch]:
        """The ledger's batches, by id."""
        found = self.app.execute(
            "SELECT id, row_count, reverted_at IS NOT NULL AS reverted, journal,"
            " coalesce(left_alone, '[]') AS left_alone FROM pgrunbook.batch ORDER BY id"
        ).fetchall()
        assert all(row["row_count"] == len(row["journal"]) for row in found)
        return {
            row["id"]: Batch(
                row["reverted"],
                [self._entry(e) for e in row["journal"]],
                [self._entry(e) for e in row["left_alone"]],
            )
            for row in found
        }

    def _entry(self, entry: list[str]) -> Entry:
        width = len(self.shape.key)
        assert len(entry) == width + len(self.shape.columns)
        key = tuple(entry[:width])
        return Entry(self.numbers[key], key, tuple(entry[width:]))


class Run:
    """A run on a lab's table, each of whose slices is looked at closely."""

    def __init__(
        self, lab: Lab, module: Module, database: Database, conn: Connection, way: Way, canary: int
    ) -> None:
        self.lab, self.conn = lab, conn
        self.steps = Steps(module, database.login, _phase(lab.shape, way, canary))

    def begin(self) -> None:
        """Plan and approve, as the first execution or as one that takes over."""
        self.steps.plan()
        self.steps.approve("plan")
        self.steps.approve("backfill")

    def begin_rollback(self) -> None:
        self.steps.plan(rollback_of=self.steps.planned["run"]["id"])
        self.steps.approve("rollback")

    def end(self, *, died: bool = False) -> None:
        """The execution that is at work works no more."""
        if died:
            self.lab.app.execute("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
        else:
            self.steps.do("run", state="failed")

    def fill_canary(self) -> Result:
        return self._filled(lambda: self.steps.backfill(canary=True))

    def fill(self) -> Result:
        return self._filled(
            lambda: backfill.run_slice(self.conn, self._spec(), self._run(), canary=False)
        )

    def fill_the_rest(self) -> None:
        """Afterwards nothing is eligible. The last sweep may come too early for what the
        application did; then the next execution fills that."""
        result = self._filled(self.steps.backfill)
        if self.lab.rows() != self.lab.one_update():
            assert result["sweep"] == backfill.MOST_SWEEPS - 1
            self.end()
            self.begin()
            self._filled(self.steps.backfill)
        assert self.lab.rows() == self.lab.one_update()

    def give_back(self) -> Result:
        return self._given_back(
            lambda: revert.revert_slice(self.conn, self._spec(), self._run(), dry=False)
        )

    def give_back_the_rest(self) -> Result:
        result = self._given_back(lambda: self.steps.backfill(state="reverted"))
        assert result["rows_done"] == 0
        assert all(batch.reverted for batch in self.lab.batches().values())
        return result

    def _spec(self) -> spec.Spec:
        return replace(spec.parse(self.steps.spec), slice_seconds=0)

    def _run(self) -> ledger.Run:
        return ledger.Run(**self.steps.planned["run"])

    def _filled(self, work: Callable[[], Result]) -> Result:
        """Do the work. Each row that it changed is now as one UPDATE would have made it, and has
        one new entry in the journal; all others are as they were."""
        before, wanted, known = self.lab.rows(), self.lab.one_update(), self.lab.batches()
        result = work()
        after, batches = self.lab.rows(), self.lab.batches()
        new = [entry for id, b in batches.items() if id not in known for entry in b.journal]
        journal = {entry.number: entry for entry in new}
        assert len(journal) == len(new), "a row is twice in the journal of one slice"
        assert after.keys() == before.keys()
        for number, row in after.items():
            if number in journal:
                assert row == wanted[number]
                assert journal[number] == Entry(number, row.key, gained(before[number], row))
            else:
                assert row == before[number], "changed, and not in the journal"
        assert result["rows_done"] == sum(len(b.journal) for b in batches.values())
        return result

    def _given_back(self, work: Callable[[], Result]) -> Result:
        """Do the work. Each row whose batch was taken back has lost what the journal says, or it
        is listed as left alone because it does not hold that any more; all others are as they
        were. A row with more than one entry is given back with the latest of them."""
        before, known = self.lab.rows(), self.lab.batches()
        result = work()
        after, batches = self.lab.rows(), self.lab.batches()
        taken = [b for id, b in batches.items() if b.reverted and not known[id].reverted]
        entries = [entry for b in taken for entry in b.journal]
        left = {entry for b in taken for entry in b.left_alone}
        times = Counter(entry.number for b in batches.values() for entry in b.journal)
        assert after.keys() == before.keys()
        for number in after.keys() - {entry.number for entry in entries}:
            assert after[number] == before[number], "given back, and not in the journal"
        for entry in entries:
            row = before.get(entry.number)
            if times[entry.number] > 1:
                continue
            if row is None:
                assert entry in left, "deleted, and not listed"
            else:
                wanted = taken_back(row, entry)
                assert (entry in left) is (wanted is None)
                assert after[entry.number] == (wanted or row)
        everywhere = sum(len(b.left_alone) for b in batches.values())
        assert result["rows_left_alone"] == everywhere
        assert len(result["left_alone"]) == min(everywhere, revert.MOST_LEFT_ALONE)
        return result


def gained(before: Stored, after: Stored) -> tuple[str | None, ...]:
    """The values that a row has gained, as an entry of the journal has them."""
    pairs = list(zip(before.values, after.values, strict=True))
    assert before != after and all(old in (None, new) for old, new in pairs)
    return tuple(new if old is None else None for old, new in pairs)


def taken_back(row: Stored, entry: Entry) -> Stored | None:
    """The row without the values of the entry; None if it does not hold them all any more."""
    pairs = list(zip(row.values, entry.written, strict=True))
    if row.key != entry.key or any(w not in (None, v) for v, w in pairs):
        return None
    return replace(row, values=tuple(v if w is None else None for v, w in pairs))


def _phase(table: Table, way: Way, canary_rows: int) -> dict[str, Any]:
    """The option spec of the modules."""
    defaults = {name: o["default"] for name, o in spec.SPEC_OPTIONS.items() if "default" in o}
    return {
        **defaults,
        **way.__dict__,
        "phase": "lab",
        "schema": SCHEMA,
        "table": table.name,
        "key": [k.name for k in table.key],
        "columns": [
            {"name": c.name, "type": c.type, "source": _quoted(s.name)}
            for c, s in zip(table.columns, table.source_columns, strict=True)
        ],
        "source_schema": SCHEMA,
        "source_table": table.source_name,
        "source_key": {
            r.name: k.name for r, k in zip(table.reference, table.source_key, strict=True)
        },
        "canary_rows": canary_rows,
        "most_lock_waiters": 1000,
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _comma(parts: Iterable[Composable]) -> Composed:
    return SQL(", ").join(parts)


def _names(fields: Any) -> Composed:
    return _comma(Identifier(f.name) for f in fields)


def _definitions(fields: list[Field]) -> Composed:
    return _comma(SQL("{} {}").format(Identifier(f.name), SQL(f.type)) for f in fields)


def _texts(fields: Any) -> Composed:
    return SQL("ARRAY[{}]::text[]").format(
        _comma(SQL("{}::text").format(Identifier(f.name)) for f in fields)
    )


def _value(of: Field, value: str | None) -> Composed:
    return SQL("{}::{}").format(Literal(value), SQL(of.type))


def _equal(of: Field, value: str | None) -> Composed:
    return SQL("{} = {}").format(Identifier(of.name), _value(of, value))


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = iter(draw(st.permutations(NAMES)))

    def fields(*types: str) -> tuple[Field, ...]:
        return tuple(Field(next(names), type) for type in types)

    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    key = draw(st.sampled_from(list(KEYS)))
    reference = ["text"] * draw(st.integers(1, 2))
    sources = draw(st.lists(_values(types), max_size=5))
    rows = draw(st.lists(_rows(types, len(sources)), max_size=12))
    return Table(
        name=next(names),
        key=fields(*draw(st.sampled_from([(key,), ("text", key)]))),
        columns=fields(*types),
        reference=fields(*reference),
        rows=tuple(rows),
        copies=draw(st.integers(1, MOST_ROWS // max(len(rows), 1))),
        source_name=next(names),
        source_key=fields(*reference),
        source_columns=fields(*types),
        sources=tuple(sources),
        partitioned_by=draw(st.sampled_from(["", "", "LIST", "HASH"])),
        fillfactor=draw(st.sampled_from([100, 50, 10])),
        padding=draw(st.sampled_from([0, 100, 700])),
        analyzed=draw(st.booleans()),
    )


def _values(types: list[str]) -> st.SearchStrategy[tuple[str | None, ...]]:
    """Values of these columns, about every third of them NULL."""
    return st.tuples(*(st.sampled_from([None, None, *VALUES[type]]) for type in types))


def _rows(types: list[str], sources: int) -> st.SearchStrategy[Row]:
    """A row that refers to one of the sources, to one that is not there, or to none. Most rows
    lack values."""
    there, nothing = st.integers(0, max(sources - 1, 0)), st.just((None,) * len(types))
    source = st.one_of(there, there, there, st.just(sources), st.none())
    return st.builds(Row, source, nothing | _values(types))


def ways(table: Table) -> st.SearchStrategy[Way]:
    strategies = ["auto", "ranges", "interleaved"]
    if not table.partitioned_by:
        strategies += ["keyset"] * 3
    return st.builds(
        Way,
        strategy=st.sampled_from(strategies),
        workers=st.integers(1, 3),
        batch_rows=st.integers(1, 50),
        batch_target_ms=st.sampled_from([1, 5, 100]),
    )


def changes(table: Table) -> st.SearchStrategy[Change]:
    types, which = [column.type for column in table.columns], st.integers(0, 6)
    write = st.integers(0, len(types) - 1).flatmap(
        lambda column: st.builds(
            Write, which, st.just(column), st.sampled_from([*VALUES[types[column]], None])
        )
    )
    return st.one_of(
        *(write, write, write),
        st.builds(Insert, _rows(types, len(table.sources)), st.integers(1, 30)),
        st.builds(Delete, which),
        st.builds(Note, which),
        st.builds(ChangeKey, which),
        st.builds(Refer, which, st.integers(0, 5) | st.none()),
        st.builds(ChangeSource, st.integers(0, 5), st.none() | _values(types)),
    )


def scripts(table: Table, *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Script]:
    """Slices and takeovers, and more."""
    take_over = st.builds(TakeOver, st.booleans(), ways(table))
    parts = st.one_of(st.just(Slice()), st.just(Slice()), st.just(Slice()), take_over, *more)
    return st.lists(parts, max_size=7).map(tuple)


@contextmanager
def laboratory(database: Database, table: Table) -> Iterator[tuple[Lab, Connection]]:
    """The table, and a connection of the engine."""
    with ExitStack() as stack:
        lab = Lab(database, table)
        stack.enter_context(closing(lab.app))
        lab.create()
        login, schemas = database.login, [SCHEMA]
        conn = stack.enter_context(connect(login, name="test", read_only=False, schemas=schemas))
        yield lab, conn


@dataclass(frozen=True)
class Example:
    """A table, how its run begins, and what happens on its way there and back."""

    table: Table
    way: Way
    canary_rows: int
    there: Script
    back: Script


@st.composite
def examples(draw: st.DrawFn, *, busy: bool) -> Example:
    table = draw(tables())
    more = [changes(table)] * 4 if busy else []
    return Example(
        table,
        draw(ways(table)),
        draw(st.integers(1, 60)),
        draw(scripts(table, *more)),
        draw(scripts(table, *more)),
    )


def play(run: Run, script: Script, work: Callable[[], Result], begin: Callable[[], None]) -> None:
    for part in script:
        match part:
            case Slice():
                work()
            case TakeOver(died, way):
                run.end(died=died)
                run.steps.spec |= way.__dict__
                begin()
            case change:
                run.lab.apply(change)


@contextmanager
def filled_canary(database: Database, module: Module, example: Example) -> Iterator[Run]:
    """A run whose canary is done and whose backfill is approved."""
    with laboratory(database, example.table) as (lab, conn):
        run = Run(lab, module, database, conn, example.way, example.canary_rows)
        run.begin()
        eligible = run.steps.planned["counts"]["rows_eligible"]
        before, wanted = lab.rows(), lab.one_update()
        assert eligible == sum(row != wanted[number] for number, row in before.items())
        result = run.fill_canary()
        assert result["rows_done"] == min(example.canary_rows, eligible)
        yield run


@settings(FOR_CI, max_examples=25)
@given(example=examples(busy=False))
def test_ends_as_one_update_and_goes_back_to_the_start(
    database: Database, module: Module, example: Example
) -> None:
    """Wherever it stops, and whoever goes on."""
    with filled_canary(database, module, example) as run:
        play(run, example.there, run.fill, run.begin)
        run.fill_the_rest()
        assert_filled_once(run.lab)

        run.end()
        run.begin_rollback()
        play(run, example.back, run.give_back, run.begin_rollback)
        assert run.give_back_the_rest()["rows_left_alone"] == 0
        assert run.lab.rows() == run.lab.before


@settings(FOR_CI, max_examples=16)
@given(example=examples(busy=True))
def test_leaves_alone_what_the_application_does_between_its_slices(
    any_database: Database, module: Module, example: Example
) -> None:
    with filled_canary(any_database, module, example) as run:
        play(run, example.there, run.fill, run.begin)
        run.fill_the_rest()
        assert_filled_once(run.lab)

        run.end()
        run.begin_rollback()
        play(run, example.back, run.give_back, run.begin_rollback)
        run.give_back_the_rest()
        assert_untouched_rows_are_back(run.lab)


def assert_filled_once(lab: Lab) -> None:
    """Unless the application took the value away again."""
    times = Counter(
        (entry.number, column)
        for batch in lab.batches().values()
        for entry in batch.journal
        for column, value in enumerate(entry.written)
        if value is not None and entry.number not in lab.touched
    )
    assert set(times.values()) <= {1}


def assert_untouched_rows_are_back(lab: Lab) -> None:
    for number, row in lab.rows().items():
        if number not in lab.touched:
            assert row.values == lab.before[number].values


class Application(threading.Thread):
    """Does random things to single rows, and remembers what it wrote. A person would call it busy,
    but it leaves the engine some time."""

    def __init__(self, lab: Lab, seed: int, transactions: int) -> None:
        super().__init__()
        self.lab, self.transactions = lab, transactions
        self.random = random.Random(seed)
        self.alive = set(lab.rows())
        self.notes = {n: int(row.rest[0] or 0) for n, row in lab.rows().items()}
        self.written: dict[tuple[int, int], str | None] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        actions = [
            *(self.note, self.note_some, self.write, self.write, self.change_key),
            *(self.insert, self.delete, self.change_source),
        ]
        try:
            for _ in range(self.transactions):
                self.random.choice(actions)()
                time.sleep(self.random.choice([0, 0.001, 0.005]))
        except BaseException as error:
            self.error = error

    def check(self) -> None:
        """Everything is as the application left it, apart from values that were NULL, and from
        those that it wrote again just as the run had, which a rollback cannot tell."""
        self.join()
        if self.error:
            raise self.error
        rows = self.lab.rows()
        assert rows.keys() == self.alive
        assert {n: int(row.rest[0] or 0) for n, row in rows.items()} == self.notes
        given_back = {
            (entry.number, column, value)
            for batch in self.lab.batches().values()
            for entry in batch.journal * batch.reverted
            for column, value in enumerate(entry.written)
        }
        for (number, column), value in self.written.items():
            stored = rows[number].values[column] if number in rows else value
            assert stored == value or (number, column, value) in given_back

    def one(self) -> int:
        return self.random.choice(sorted(self.alive) or [-1])

    def note(self) -> None:
        number = self.one()
        if self.lab.add_note(number):
            self.notes[number] += 1

    def note_some(self) -> None:
        """In one transaction, which takes a moment and may be rolled back."""
        numbers = sorted({self.one() for _ in range(8)} - {-1})
        commit = self.random.random() < 0.7
        with self.lab.app.transaction(force_rollback=not commit):
            for number in numbers:
                self.lab.add_note(number)
            time.sleep(self.random.random() / 50)
        for number in numbers * commit:
            self.notes[number] += 1

    def write(self) -> None:
        number, column = self.one(), self.random.randrange(len(self.lab.shape.columns))
        value = self.random.choice(VALUES[self.lab.shape.columns[column].type])
        if number >= 0:
            self.written[number, column] = self.lab.write(number, column, value)

    def change_key(self) -> None:
        self.lab.change_key(self.one())

    def insert(self) -> None:
        nothing = (None,) * len(self.lab.shape.columns)
        self.lab.apply(Insert(Row(self.random.randrange(6), nothing), 1))
        number = max(self.lab.before)
        self.alive.add(number)
        self.notes[number] = 0

    def delete(self) -> None:
        number = self.one()
        self.lab.delete(number)
        self.alive -= {number}
        self.notes.pop(number, None)

    def change_source(self) -> None:
        values = tuple(self.random.choice([None, *VALUES[c.type]]) for c in self.lab.shape.columns)
        self.lab.apply(ChangeSource(self.random.randrange(6), values))


@settings(FOR_CI, max_examples=6, phases=[Phase.generate])
@given(example=examples(busy=False), seed=st.integers(0, 2**32))
def test_works_beside_a_busy_application(
    any_database: Database, module: Module, example: Example, seed: int
) -> None:
    """The scripts are not used. What happens depends on the moment, so nothing is shrunk."""
    with filled_canary(any_database, module, example) as run:
        application = Application(run.lab, seed, 60)
        application.start()
        run.steps.backfill()
        application.check()
        run.fill_the_rest()
        application.check()
        assert_filled_once(run.lab)

        run.end()
        run.begin_rollback()
        application = Application(run.lab, seed + 1, 60)
        application.start()
        run.steps.backfill(state="reverted")
        application.check()
        assert_untouched_rows_are_back(run.lab)
        touched = {e.number for b in run.lab.batches().values() for e in b.left_alone}
        assert touched <= run.lab.touched
