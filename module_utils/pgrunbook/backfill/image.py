# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a table that would be filled, as they would be then, and what may refuse one of them.
Only reads.

They are under the table's own name, with the values that they would get in place of their NULLs, so
that an expression of the catalog means just what it means to the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import TableInfo, conversion, type_limits
from ..core.connection import Connection
from ..core.spec import Spec, Table
from ..core.sql import comma, name, table, text
from . import constraint_sql as sql
from . import eligibility, refused_rows

KEY, LARGE, MOVES, VALUE = "pgrunbook key", "pgrunbook large", "pgrunbook moves", "pgrunbook value"
"""What a row has besides the table's columns; the last three are numbered by the phase's columns:
whether the type is too small for the value, whether the column is filled, and its value then."""


@dataclass(frozen=True)
class FilledColumn:
    """A column that is filled: its number in the phase, the name that it bears now (empty where a
    conversion will make it), its type without domains, the value that it has, the one that it
    would get, and the condition that its type cannot hold that, None where it holds any."""

    number: int
    present: str
    base: str
    filled: Composable
    value: Composable
    too_large: Composable | None


@dataclass(frozen=True)
class Rule:
    """Something that may refuse rows: how a message calls it, and the condition that it does, on a
    row as it would be. whole_row is whether that needs a row of the table's own type."""

    said: str
    broken: Composable
    whole_row: bool = False


def filled_columns(conn: Connection, spec: Spec, info: TableInfo) -> list[FilledColumn]:
    held = conversion.held(spec, info.types)
    pending = {each.column.name for each in conversion.pending(spec, info)}
    names = catalog.present_names(spec, info)
    values = eligibility.values(spec, held)
    query = SQL("SELECT {} FROM {} t LEFT JOIN ({}) s ON {} LIMIT 0").format(
        comma(values), table(spec.table), eligibility.source_query(spec), eligibility.matches(spec)
    )
    types = [column.type_code for column in conn.execute(query, ()).description or ()]
    found = []
    for number, (c, value, given) in enumerate(zip(spec.columns, values, types, strict=True)):
        base = type_limits.base_type(conn, c.type)
        small = None if type_limits.is_wider(base, given) else type_limits.too_large(base, value)
        found.append(
            FilledColumn(
                number,
                "" if c.name in pending else names[c.name],
                base,
                held[c.name].filled,
                value,
                small,
            )
        )
    return found


@dataclass(frozen=True)
class UniqueIndex:
    """A unique index: its name, the expressions of its key, the condition on the rows that it is
    on, whether NULLs are equal to it, and the columns that it mentions."""

    name: str
    predicate: str | None
    nulls_too: bool
    keys: list[str]
    mentions: list[str]


class Image:
    """The rows of a table that would be filled, as they would be then.

    whole is whether it is the phase's table; else it is a partition of that, and what both share is
    left out.
    """

    def __init__(
        self,
        conn: Connection,
        spec: Spec,
        on: Table,
        info: TableInfo,
        columns: Sequence[FilledColumn],
        *,
        whole: bool,
    ) -> None:
        self._conn, self._spec, self.on, self.info = conn, spec, on, info
        self.filled, self._whole = columns, whole
        self._asked = (info.oid, whole)
        self._held = conversion.held(spec, info.types)
        generated = conn.execute(sql.GENERATED, (info.oid,)).fetchall()
        self._generated = {row["name"]: row["expression"] for row in generated}
        self._never_null = [row["name"] for row in generated if row["not_null"]]

    @property
    def alias(self) -> Composable:
        """What expressions of the catalog call the row."""
        return name(self.on.name)

    def rules(self) -> Iterator[Rule]:
        """What may refuse one of the rows, whatever the others hold."""
        if self._whole:
            for c in self.filled:
                yield from self._types(c)
            yield from map(self._not_null, self._never_null)
        yield from self._checks()
        yield from self._foreign_keys()

    def unique_indexes(self) -> list[UniqueIndex]:
        """The unique indexes of its own that a filled column takes part in."""
        rows = self._conn.execute(sql.UNIQUE, self._asked)
        return [UniqueIndex(**row) for row in rows if self.touched(row["mentions"])]

    def exclusions(self) -> list[str]:
        """What may refuse rows, and is not evaluated: it is no question of equality, or of the
        table's own filled columns."""
        rows = self._conn.execute(sql.EXCLUSIONS, self._asked).fetchall()
        found = [
            f"exclusion constraint {row['name']!r}" for row in rows if self.touched(row["mentions"])
        ]
        keys = self._conn.execute(sql.FOREIGN_KEYS, self._asked).fetchall()
        return found + [
            f"foreign key {row['name']!r}"
            for row in keys
            if self.touched(row["columns"]) and self._is_open(row)
        ]

    def _is_open(self, key: Mapping[str, Any]) -> bool:
        """Whether it depends on the order of the batches, or on periods, what a foreign key
        refuses."""
        own = (key["schema"], key["table"]) == (self.on.schema, self.on.name)
        return key["temporal"] or (own and bool(self.touched(key["referenced"])))

    def touched(self, mentions: Iterable[str]) -> list[FilledColumn]:
        """The filled columns that are mentioned; all of them where a generated column is."""
        mentioned = set(mentions)
        if mentioned & set(self._generated):
            return list(self.filled)
        return [c for c in self.filled if c.present in mentioned]

    def moves(self, columns: Iterable[FilledColumn]) -> Composed:
        """The condition that one of these columns is filled."""
        return eligibility.any_of(self.extra(MOVES, c.number) for c in columns)

    def extra(self, kind: str, number: int) -> Composed:
        """What a row has besides the table's columns."""
        return SQL("{}").format(name(f"{kind} {number}"))

    def rows(
        self, among: Composable, *, everyone: bool = False, whole_row: bool = False
    ) -> Composed:
        """The rows to fill, or everyone's, as an item of FROM; among is the table, or some of its
        rows, as such an item too."""
        image = self._plain(among, everyone)
        if self._generated:
            image = SQL("(SELECT {extras}, {columns} FROM {image}) AS {alias}").format(
                extras=comma(self._extras()),
                columns=comma(map(self._again, self.info.columns)),
                image=image,
                alias=self.alias,
            )
        if not whole_row:
            return image
        return SQL(
            "(SELECT {extras}, ROW({columns})::{table} AS pgrunbook_row FROM {image})"
            " AS pgrunbook_rows, LATERAL unnest(ARRAY[pgrunbook_row]) AS {alias}"
        ).format(
            extras=comma(self._extras()),
            columns=comma(map(name, self.info.columns)),
            table=table(self.on),
            image=image,
            alias=self.alias,
        )

    def _extras(self) -> list[Composable]:
        kinds = (LARGE, MOVES, VALUE)
        return [
            name(KEY),
            *(name(f"{kind} {c.number}") for kind in kinds for c in self.filled),
        ]

    def _plain(self, among: Composable, everyone: bool) -> Composed:
        """The rows, with generated columns as they are now."""
        extras = [SQL("{}::text AS {}").format(refused_rows.key(self._spec), name(KEY))]
        then = {}
        for c in self.filled:
            moves = SQL("({} IS NOT DISTINCT FROM NULL AND {} IS DISTINCT FROM NULL)").format(
                c.filled, c.value
            )
            large = SQL("({} AND coalesce({}, false))").format(moves, c.too_large or SQL("false"))
            fits = c.value
            if c.too_large:
                fits = SQL("CASE WHEN NOT {} THEN {} END").format(c.too_large, c.value)
            value = SQL("coalesce({}, {})::{}").format(c.filled, fits, text(c.base))
            then[c.present] = value
            extras += [
                SQL("{} AS {}").format(large, name(f"{LARGE} {c.number}")),
                SQL("{} AND NOT {} AS {}").format(moves, large, name(f"{MOVES} {c.number}")),
                SQL("{} AS {}").format(value, name(f"{VALUE} {c.number}")),
            ]
        columns = [
            SQL("{} AS {}").format(then.get(n, SQL("t.{}").format(name(n))), name(n))
            for n in self.info.columns
        ]
        return SQL(
            "(SELECT {columns} FROM {among} t {join} ({source}) s ON {matches}{where}) AS {alias}"
        ).format(
            columns=comma([*extras, *columns]),
            among=among,
            join=SQL("LEFT JOIN") if everyone else eligibility.joined(self._held),
            source=eligibility.source_query(self._spec),
            matches=eligibility.matches(self._spec),
            where=SQL("")
            if everyone
            else SQL(" WHERE {}").format(eligibility.eligible(self._spec, self._held)),
            alias=self.alias,
        )

    def _again(self, column: str) -> Composed:
        """A column of the image; a generated one is computed anew."""
        if column not in self._generated:
            return SQL("{}").format(name(column))
        return SQL("({}) AS {}").format(text(self._generated[column]), name(column))

    def _types(self, c: FilledColumn) -> Iterator[Rule]:
        """What the column's type does not hold, and what the domains that it is made of forbid."""
        spelled = self._spec.columns[c.number]
        said = f"of column {spelled.name!r}"
        if c.too_large:
            yield Rule(f"Type {spelled.type} {said}", self.extra(LARGE, c.number))
        for row in self._conn.execute(sql.DOMAINS, (spelled.type,)).fetchall():
            rule = row["expression"] or "VALUE IS DISTINCT FROM NULL"
            forbids = SQL("(({}) IS FALSE)").format(text(rule))
            yield Rule(
                f"Constraint {row['name']!r} of domain {row['domain']} {said}",
                SQL("(SELECT {} FROM (SELECT {}.{} AS value) pgrunbook_domain)").format(
                    forbids, self.alias, self.extra(VALUE, c.number)
                ),
            )

    def _checks(self) -> Iterator[Rule]:
        """CHECK constraints, and NOT NULL that was not validated. Those that hold for the rows as
        they are, and have nothing to do with what is filled, are left out."""
        for row in self._conn.execute(sql.CHECKS, self._asked).fetchall():
            whole = row["whole_row"]
            if row["validated"] and not whole and not self.touched(row["mentions"]):
                continue
            if row["expression"] is None:
                yield self._not_null(row["mentions"][0])
            else:
                broken = SQL("(({}) IS FALSE)").format(text(row["expression"]))
                yield Rule(f"CHECK constraint {row['name']!r} of {self.on}", broken, whole)

    def _not_null(self, column: str) -> Rule:
        broken = SQL("({} IS NOT DISTINCT FROM NULL)").format(name(column))
        return Rule(f"NOT NULL of column {column!r} of {self.on}", broken)

    def _foreign_keys(self) -> Iterator[Rule]:
        for row in self._conn.execute(sql.FOREIGN_KEYS, self._asked).fetchall():
            filled = self.touched(row["columns"])
            if not filled or self._is_open(row):
                continue
            ours = [SQL("{}.{}").format(self.alias, name(c)) for c in row["columns"]]
            there = SQL("EXISTS (SELECT FROM {} pgrunbook_ref WHERE {})").format(
                table(Table(row["schema"], row["table"])),
                SQL(" AND ").join(
                    SQL("pgrunbook_ref.{} = {}").format(name(theirs), our)
                    for theirs, our in zip(row["referenced"], ours, strict=True)
                ),
            )
            nulls = SQL("num_nulls({})").format(comma(ours))
            count = Literal(len(ours))
            unmatched = SQL("{} = 0 AND NOT {}").format(nulls, there)
            if row["full"]:
                unmatched = SQL("{n} < {c} AND ({n} > 0 OR NOT {there})").format(
                    n=nulls, c=count, there=there
                )
            yield Rule(
                f"Foreign key {row['name']!r} of {self.on}",
                SQL("({} AND {})").format(self.moves(filled), unmatched),
            )
