# SPDX-License-Identifier: GPL-3.0-or-later
"""The table on the server, what the application does to it, and what the ledger says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from ansible.module_utils.pgrunbook.core.connection import Connection, connect
from tests.integration.conftest import Database
from tests.integration.lab.shapes import (
    GROUPS,
    KEYS,
    SCHEMA,
    Change,
    ChangeKey,
    ChangeSource,
    Delete,
    Field,
    Insert,
    Note,
    Refer,
    Row,
    Table,
    Write,
)

NOTHING = SQL("NULL")


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
