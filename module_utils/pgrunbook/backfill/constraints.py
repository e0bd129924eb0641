# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows the server would refuse to fill, and by which constraint, foreseen for the plan. Only
reads.

Every row to be filled is looked at as it would be afterwards: under the table's own name, with the
values that it would get in place of its NULLs, so that an expression of the catalog means just what
it means to the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import TableInfo, conversion, type_limits, volatile
from ..core.connection import Connection, one
from ..core.errors import RunbookError, reason, require_none
from ..core.spec import Spec, Table
from ..core.sql import comma, name, table, text
from . import eligibility, unfillable

KEY, LARGE, MOVES, VALUE = "pgrunbook key", "pgrunbook large", "pgrunbook moves", "pgrunbook value"
"""What a row has besides the table's columns; the last three are numbered by the phase's columns:
whether the type is too small for the value, whether the column is filled, and its value then."""


@dataclass(frozen=True)
class Foreseen:
    """What the server would refuse. refused has for each constraint what, rows and up to
    unfillable.MOST_NAMED keys, as JSON; rows counts them all; unforeseen names what could not be
    evaluated without writing."""

    refused: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    unforeseen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Column:
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
class _Rule:
    """Something that may refuse rows: how a message calls it, and the condition that it does, on a
    row as it would be. whole_row is whether that needs a row of the table's own type."""

    said: str
    broken: Composable
    whole_row: bool = False


def foresee(conn: Connection, spec: Spec, info: TableInfo) -> Foreseen:
    """The rows that the server would refuse to fill, in this READ ONLY transaction. The phase's
    expressions must be sound."""
    columns = _columns(conn, spec, info)
    images = [_Image(conn, spec, spec.table, info, columns, whole=True)]
    images += [
        _Image(conn, spec, leaf.table, catalog.inspect(conn, leaf.table), columns, whole=False)
        for leaf in info.leaves
        if leaf.oid != info.oid and _has_own(conn, leaf.oid)
    ]
    refused: list[dict[str, Any]] = []
    unforeseen: list[str] = []
    rows = 0
    for image in images:
        rules = list(image.rules())
        looked = _Looked(conn, spec, image)
        rows += looked.at(rules)
        for index in image.unique_indexes():
            rows += looked.at_unique(index)
        refused += looked.refused
        unforeseen += [*looked.unforeseen, *image.exclusions()]
    triggers = catalog.update_triggers(conn, info, [c.present for c in columns if c.present])
    unforeseen += [f"trigger {trigger!r}" for trigger in triggers]
    return Foreseen(refused, rows, unforeseen)


def require_fillable(conn: Connection, spec: Spec, info: TableInfo) -> Foreseen:
    """What foresee() finds. Raises RunbookError where the server would refuse more rows than the
    phase lets be set aside, with each constraint."""
    found = foresee(conn, spec, info)
    if found.rows <= spec.unfillable_max:
        return found
    require_none(
        f"{each['what']} would refuse {each['rows']:,} of the rows to fill, such as "
        f"{', '.join(each['keys'])} (by key), and phase_unfillable_max lets "
        f"{spec.unfillable_max:,} be set aside. Nothing was changed. Next step: mend what these "
        "rows hold or would get; or leave them out with a source expression that gives NULL for "
        f"them; or set phase_unfillable_max to at least {found.rows:,} to have them set aside and "
        "listed."
        for each in found.refused
    )
    return found


class _Image:
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
        columns: Sequence[_Column],
        *,
        whole: bool,
    ) -> None:
        self._conn, self._spec, self._on, self._info = conn, spec, on, info
        self._filled, self._whole = columns, whole
        self._asked = (info.oid, whole)
        self._held = conversion.held(spec, info.types)
        self._generated = {
            row["name"]: row["expression"] for row in conn.execute(_GENERATED, (info.oid,))
        }

    @property
    def alias(self) -> Composable:
        """What expressions of the catalog call the row."""
        return name(self._on.name)

    def rules(self) -> Iterator[_Rule]:
        """What may refuse one of the rows, whatever the others hold."""
        if self._whole:
            for c in self._filled:
                yield from self._types(c)
        yield from self._checks()
        yield from self._foreign_keys()

    def unique_indexes(self) -> list[dict[str, Any]]:
        """The unique indexes of its own that a filled column takes part in."""
        rows = self._conn.execute(_UNIQUE, self._asked).fetchall()
        return [row for row in rows if self.touched(row["mentions"])]

    def exclusions(self) -> list[str]:
        """What may refuse rows, and is not evaluated: it is no question of equality, or of the
        table's own filled columns."""
        rows = self._conn.execute(_EXCLUSIONS, self._asked).fetchall()
        found = [
            f"exclusion constraint {row['name']!r}" for row in rows if self.touched(row["mentions"])
        ]
        keys = self._conn.execute(_FOREIGN_KEYS, self._asked).fetchall()
        return found + [
            f"foreign key {row['name']!r}"
            for row in keys
            if self.touched(row["columns"]) and self._is_open(row)
        ]

    def _is_open(self, key: Mapping[str, Any]) -> bool:
        """Whether it depends on the order of the batches, or on periods, what a foreign key
        refuses."""
        own = (key["schema"], key["table"]) == (self._on.schema, self._on.name)
        return key["temporal"] or (own and bool(self.touched(key["referenced"])))

    def touched(self, mentions: Iterable[str]) -> list[_Column]:
        """The filled columns that are mentioned; all of them where a generated column is."""
        mentioned = set(mentions)
        if mentioned & set(self._generated):
            return list(self._filled)
        return [c for c in self._filled if c.present in mentioned]

    def moves(self, columns: Iterable[_Column]) -> Composed:
        """The condition that one of these columns is filled."""
        return eligibility.any_of(self.extra(MOVES, c.number) for c in columns)

    def extra(self, kind: str, number: int) -> Composed:
        """What a row has besides the table's columns."""
        return SQL("{}").format(name(f"{kind} {number}"))

    def rows(self, *, everyone: bool = False, whole_row: bool = False) -> Composed:
        """The rows to fill, or everyone's, as an item of FROM."""
        image = self._plain(everyone)
        if self._generated:
            image = SQL("(SELECT {extras}, {columns} FROM {image}) AS {alias}").format(
                extras=comma(self._extras()),
                columns=comma(map(self._again, self._info.columns)),
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
            columns=comma(map(name, self._info.columns)),
            table=table(self._on),
            image=image,
            alias=self.alias,
        )

    def _extras(self) -> list[Composable]:
        kinds = (LARGE, MOVES, VALUE)
        return [
            name(KEY),
            *(name(f"{kind} {c.number}") for kind in kinds for c in self._filled),
        ]

    def _plain(self, everyone: bool) -> Composed:
        """The rows, with generated columns as they are now."""
        extras = [SQL("{}::text AS {}").format(unfillable.key(self._spec), name(KEY))]
        then = {}
        for c in self._filled:
            moves = SQL("({} IS NULL AND {} IS NOT NULL)").format(c.filled, c.value)
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
            for n in self._info.columns
        ]
        return SQL(
            "(SELECT {columns} FROM {table} t {join} ({source}) s ON {matches}{where}) AS {alias}"
        ).format(
            columns=comma([*extras, *columns]),
            table=table(self._on),
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

    def _types(self, c: _Column) -> Iterator[_Rule]:
        """What the column's type does not hold, and what the domains that it is made of forbid."""
        spelled = self._spec.columns[c.number]
        said = f"of column {spelled.name!r}"
        if c.too_large:
            yield _Rule(f"Type {spelled.type} {said}", self.extra(LARGE, c.number))
        for row in self._conn.execute(_DOMAINS, (spelled.type,)).fetchall():
            rule = row["expression"] or "VALUE IS NOT NULL"
            forbids = SQL("(({}) IS FALSE)").format(text(rule))
            yield _Rule(
                f"Constraint {row['name']!r} of domain {row['domain']} {said}",
                SQL("(SELECT {} FROM (SELECT {}.{} AS value) pgrunbook_domain)").format(
                    forbids, self.alias, self.extra(VALUE, c.number)
                ),
            )

    def _checks(self) -> Iterator[_Rule]:
        """CHECK constraints, and NOT NULL that was not validated. Those that hold for the rows as
        they are, and have nothing to do with what is filled, are left out."""
        for row in self._conn.execute(_CHECKS, self._asked).fetchall():
            whole = row["whole_row"]
            if row["validated"] and not whole and not self.touched(row["mentions"]):
                continue
            if row["expression"] is None:
                broken = SQL("({} IS NULL)").format(name(row["mentions"][0]))
                yield _Rule(f"NOT NULL of column {row['mentions'][0]!r} of {self._on}", broken)
            else:
                broken = SQL("(({}) IS FALSE)").format(text(row["expression"]))
                yield _Rule(f"CHECK constraint {row['name']!r} of {self._on}", broken, whole)

    def _foreign_keys(self) -> Iterator[_Rule]:
        for row in self._conn.execute(_FOREIGN_KEYS, self._asked).fetchall():
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
            yield _Rule(
                f"Foreign key {row['name']!r} of {self._on}",
                SQL("({} AND {})").format(self.moves(filled), unmatched),
            )


class _Looked:
    """What was found out about an image's rows; each query is in a savepoint, because what it
    calls may fail."""

    def __init__(self, conn: Connection, spec: Spec, image: _Image) -> None:
        self._conn, self._spec, self._image = conn, spec, image
        self.refused: list[dict[str, Any]] = []
        self.unforeseen: list[str] = []

    def at(self, rules: Sequence[_Rule]) -> int:
        """Count the rows that each of the rules refuses; how many they are together."""
        usable = [rule for rule in rules if self._may_be_evaluated(rule)]
        if not usable:
            return 0
        try:
            with self._conn.transaction():
                found = one(self._conn, self._counting(usable), ())
        except psycopg.errors.QueryCanceled as error:
            self.unforeseen += [f"{rule.said} ({reason(error)})" for rule in usable]
            return 0
        except psycopg.Error:  # which one it is, each tells alone
            return sum(map(self._alone, usable))
        for n, rule in enumerate(usable):
            self._note(rule.said, found[f"n{n}"], self._broken(rule))
        rows: int = found["rows"]
        return rows

    def at_unique(self, index: Mapping[str, Any]) -> int:
        """Count the rows that a unique index refuses: of several that get the same value one is
        filled, unless another row has it already."""
        said = f"Unique index {index['name']!r}"
        query = self._unique(index)
        rule = _Rule(said, SQL(""))
        if not self._is_stable(rule, query):
            return 0
        try:
            with self._conn.transaction():
                rows: int = one(self._conn, query, ())["n"]
                self._note(said, rows, self._of_unique(index))
        except psycopg.Error as error:
            self.unforeseen.append(f"{said} ({reason(error)})")
            return 0
        return rows

    def _may_be_evaluated(self, rule: _Rule) -> bool:
        return self._is_stable(rule, self._counting([rule]))

    def _is_stable(self, rule: _Rule, query: Composed) -> bool:
        """Whether a query calls only what a dry run may call."""
        try:
            with self._conn.transaction():
                volatile.acknowledged(self._conn, self._spec, query, rule.said)
        except psycopg.Error as error:
            self.unforeseen.append(f"{rule.said} ({reason(error)})")
            return False
        except RunbookError:
            self.unforeseen.append(f"{rule.said} (something in it is volatile)")
            return False
        return True

    def _alone(self, rule: _Rule) -> int:
        try:
            with self._conn.transaction():
                rows: int = one(self._conn, self._counting([rule]), ())["rows"]
                self._note(rule.said, rows, self._broken(rule))
        except psycopg.Error as error:
            self.unforeseen.append(f"{rule.said} ({reason(error)})")
            return 0
        return rows

    def _note(self, said: str, rows: int, broken: Composed) -> None:
        if not rows:
            return
        query = SQL("{} LIMIT {}").format(broken, Literal(unfillable.MOST_NAMED))
        keys = [row["key"] for row in self._conn.execute(query, ())]
        self.refused.append({"what": said, "rows": rows, "keys": keys})

    def _counting(self, rules: Sequence[_Rule]) -> Composed:
        counts = [
            SQL("count(*) FILTER (WHERE {}) AS {}").format(rule.broken, name(f"n{n}"))
            for n, rule in enumerate(rules)
        ]
        return SQL("SELECT {}, count(*) FILTER (WHERE {}) AS rows FROM {}").format(
            comma(counts),
            eligibility.any_of(rule.broken for rule in rules),
            self._image.rows(whole_row=any(rule.whole_row for rule in rules)),
        )

    def _broken(self, rule: _Rule) -> Composed:
        return SQL("SELECT {} AS key FROM {} WHERE {}").format(
            name(KEY), self._image.rows(whole_row=rule.whole_row), rule.broken
        )

    def _unique(self, index: Mapping[str, Any]) -> Composed:
        moves = self._image.moves(self._image.touched(index["mentions"]))
        return SQL(
            "SELECT coalesce(sum(moving - CASE WHEN standing = 0 THEN 1 ELSE 0 END), 0)::int8 AS n"
            " FROM (SELECT count(*) FILTER (WHERE {moves}) AS moving,"
            " count(*) FILTER (WHERE NOT {moves}) AS standing FROM {rows} WHERE {among}"
            " GROUP BY {keys}) pgrunbook_groups WHERE moving > 0 AND moving + standing > 1"
        ).format(
            moves=moves,
            rows=self._image.rows(everyone=True),
            among=_among(index),
            keys=comma(map(text, index["keys"])),
        )

    def _of_unique(self, index: Mapping[str, Any]) -> Composed:
        keys = comma(map(text, index["keys"]))
        return SQL(
            "SELECT {key} AS key FROM (SELECT {key}, {moves} AS moves, count(*) OVER (PARTITION BY"
            " {keys}) AS rows, row_number() OVER (PARTITION BY {keys} ORDER BY {moves}) AS n"
            " FROM {rows} WHERE {among}) pgrunbook_same WHERE moves AND rows > 1 AND n > 1"
        ).format(
            key=name(KEY),
            moves=self._image.moves(self._image.touched(index["mentions"])),
            keys=keys,
            rows=self._image.rows(everyone=True),
            among=_among(index),
        )


def _among(index: Mapping[str, Any]) -> Composed:
    """Which rows a unique index compares."""
    conditions: list[Composable] = [SQL("true")]
    if index["predicate"] is not None:
        conditions.append(SQL("({})").format(text(index["predicate"])))
    if not index["nulls_too"]:
        conditions += [SQL("({}) IS NOT NULL").format(text(key)) for key in index["keys"]]
    return SQL(" AND ").join(conditions)


def _columns(conn: Connection, spec: Spec, info: TableInfo) -> list[_Column]:
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
            _Column(
                number,
                "" if c.name in pending else names[c.name],
                base,
                held[c.name].filled,
                value,
                small,
            )
        )
    return found


def _has_own(conn: Connection, leaf: int) -> bool:
    """Whether a partition has constraints or unique indexes that its parent has not."""
    return bool(one(conn, _OWN, (leaf, leaf))["own"])


_GENERATED = """
SELECT a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS expression
FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::oid AND a.attgenerated <> '' AND NOT a.attisdropped
"""

_CHECKS = f"""
SELECT k.conname AS name, pg_get_expr(k.conbin, k.conrelid) AS expression,
       k.convalidated AS validated, 0 = ANY (k.conkey) AS whole_row,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS mentions
FROM pg_constraint k
WHERE k.conrelid = %s::oid AND {catalog.ENFORCED}
AND (k.contype = 'c' OR k.contype = 'n' AND NOT k.convalidated)
AND (%s OR k.coninhcount = 0)
ORDER BY 1
"""

_FOREIGN_KEYS = f"""
SELECT k.conname AS name, n.nspname AS schema, c.relname AS table, k.confmatchtype = 'f' AS full,
       coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AS temporal,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, n)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
             ORDER BY u.n) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(attnum, n)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum
             ORDER BY u.n) AS referenced
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = %s::oid AND k.contype = 'f' AND {catalog.ENFORCED} AND (%s OR k.conparentid = 0)
AND NOT EXISTS (SELECT FROM pg_constraint p  -- to each partition of the table that it refers to
                WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY 1
"""

_UNIQUE = f"""
SELECT c.relname AS name, pg_get_expr(i.indpred, i.indrelid) AS predicate,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_too,
       ARRAY(SELECT pg_get_indexdef(c.oid, n, false) FROM generate_series(1, i.indnkeyatts) n)
         AS keys, {catalog.MENTIONS} AS mentions
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::oid AND i.indisunique AND NOT i.indisexclusion AND i.indisready
AND (%s OR NOT c.relispartition) ORDER BY 1
"""

_EXCLUSIONS = f"""
SELECT c.relname AS name, {catalog.MENTIONS} AS mentions
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::oid AND i.indisexclusion AND (%s OR NOT c.relispartition) ORDER BY 1
"""

_OWN = """
SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = %s::oid AND coninhcount = 0)
    OR EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               WHERE i.indrelid = %s::oid AND NOT c.relispartition
               AND (i.indisunique OR i.indisexclusion)) AS own
"""

_DOMAINS = """
WITH RECURSIVE types AS (
    SELECT oid, typtype, typbasetype, typnotnull FROM pg_type WHERE oid = to_regtype(%s)
    UNION ALL
    SELECT y.oid, y.typtype, y.typbasetype, y.typnotnull
    FROM types t JOIN pg_type y ON y.oid = t.typbasetype WHERE t.typtype = 'd'
)
SELECT t.oid::regtype::text AS domain, k.conname AS name, pg_get_expr(k.conbin, 0) AS expression
FROM types t JOIN pg_constraint k ON k.contypid = t.oid AND k.contype = 'c'
UNION ALL
SELECT t.oid::regtype::text, 'NOT NULL', NULL FROM types t WHERE t.typtype = 'd' AND t.typnotnull
ORDER BY 1, 2
"""
