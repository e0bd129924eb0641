# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows the server would refuse to fill, and by which constraint, foreseen for the plan. Only
reads. Every row to be filled is looked at as it would be afterwards (image.py).

What may refuse a row by itself is asked of a large table range by range. A unique index is about
all rows at once, so it is asked by one statement, whatever the size of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg
from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog
from ..catalog import TableInfo, page_ranges, volatile
from ..catalog.page_ranges import Row
from ..core.connection import Connection, one
from ..core.errors import RunbookError, reason, require_none
from ..core.reconnect import raise_if_lost
from ..core.spec import Spec
from ..core.sql import comma, name, table, text
from . import constraint_sql as sql
from . import count_estimate, eligibility, refused_rows
from .count_estimate import Sampled
from .image import KEY, LARGE, MOVES, Image, Rule, UniqueIndex, filled_columns


@dataclass(frozen=True)
class Refusal:
    """What a constraint would refuse: what it is, as a message calls it, how many rows, and the
    keys of up to refused_rows.MAX_NAMED of them, as JSON."""

    what: str
    rows: int
    keys: list[str]


@dataclass(frozen=True)
class Foreseen:
    """What the server would refuse: by each constraint, and rows in all. unforeseen names what
    could not be evaluated without writing. left has, by the phase's columns, how many rows at
    least would be without a value for that. pages_read is how many pages of each large table were
    looked at and have no such row; 0 where all rows were."""

    refused: list[Refusal] = field(default_factory=list)
    rows: int = 0
    unforeseen: list[str] = field(default_factory=list)
    left: Mapping[str, int] = field(default_factory=dict)
    pages_read: int = 0


def foresee(conn: Connection, spec: Spec, info: TableInfo, *, check: bool = False) -> Foreseen:
    """The rows that the server would refuse to fill; check is whether that is for a dry run, which
    looks at some pages of a large table, and at all of it where a row on these is refused. The
    phase's expressions must be sound, and the connection in no savepoint."""
    columns = filled_columns(conn, spec, info)
    images = [Image(conn, spec, spec.table, info, columns, whole=True)]
    images += [
        Image(conn, spec, leaf.table, catalog.inspect(conn, leaf.table), columns, whole=False)
        for leaf in info.leaves
        if leaf.oid != info.oid and _has_own(conn, leaf.oid)
    ]
    refused: list[Refusal] = []
    unforeseen: list[str] = []
    rows, pages_read = 0, 0
    left = []
    for image in images:
        rules = list(image.rules())
        pages = count_estimate.sampled_for(conn, spec, image.info, check=True) if check else None
        looked = _Looked(conn, spec, image, pages)
        rows += looked.at(rules)
        for index in image.unique_indexes():
            rows += looked.at_unique(index)
        refused += looked.refused
        left.append(looked.left)
        pages_read = max(pages_read, looked.pages_read)
        unforeseen += [*looked.unforeseen, *image.exclusions()]
    triggers = catalog.update_triggers(conn, info, [c.present for c in columns if c.present])
    unforeseen += [f"trigger {trigger!r}" for trigger in triggers]
    whole, *parts = left
    at_least = {
        c.name: max(whole.get(n, 0), sum(part.get(n, 0) for part in parts))
        for n, c in enumerate(spec.columns)
    }
    return Foreseen(refused, rows, unforeseen, at_least, pages_read)


def require_fillable(spec: Spec, found: Foreseen) -> None:
    """Raise RunbookError where the server would refuse more rows than the phase lets be set aside,
    with each constraint."""
    if found.rows <= spec.unfillable_max:
        return
    require_none(
        f"{each.what} would refuse {each.rows:,} of the rows to fill, such as "
        f"{', '.join(each.keys)} (by key), and phase_unfillable_max lets "
        f"{spec.unfillable_max:,} be set aside. Nothing was changed. Next step: mend what these "
        "rows hold or would get; or leave them out with a source expression that gives NULL for "
        f"them; or set phase_unfillable_max to at least {found.rows:,} to have them set aside and "
        "listed."
        for each in found.refused
    )


class _Looked:
    """What was found out about an image's rows, by queries of which each may fail."""

    def __init__(self, conn: Connection, spec: Spec, image: Image, pages: Sampled | None) -> None:
        self._conn, self._spec, self._image, self._pages = conn, spec, image, pages
        self.pages_read = 0
        self.refused: list[Refusal] = []
        self.unforeseen: list[str] = []
        self.left: dict[int, int] = {}
        """By the numbers of the columns, how many rows at least would get no value for that."""

    def at(self, rules: Sequence[Rule]) -> int:
        """Count the rows that each of the rules refuses; how many they are together."""
        usable = [rule for rule in rules if self._may_be_evaluated(rule)]
        if not usable:
            return 0
        try:
            found = self._counted(usable)
        except psycopg.errors.QueryCanceled as error:
            self.unforeseen += [f"{rule.said} ({reason(error)})" for rule in usable]
            return 0
        except psycopg.Error as error:  # which one it is, each tells alone
            raise_if_lost(error)
            return sum(map(self._alone, usable))
        for n, rule in enumerate(usable):
            self._note(rule.said, found[f"n{n}"], partial(self._keys, rule))
        self.left |= {c.number: found[f"left{c.number}"] for c in self._image.filled}
        rows: int = found["rows"]
        return rows

    def at_unique(self, index: UniqueIndex) -> int:
        """Count the rows that a unique index refuses: of several that get the same value one is
        filled, unless another row has it already."""
        said = f"Unique index {index.name!r}"
        query = self._unique(index)
        rule, touched = Rule(said, SQL("")), self._image.touched(index.mentions)
        if not self._is_stable(rule, query):
            return 0
        try:
            with self._conn.transaction():
                rows: int = one(self._conn, query, ())["n"]
                self._note(said, rows, partial(self._keys_of_unique, index))
            for column in touched if len(touched) == 1 else ():
                self.left[column.number] = max(self.left.get(column.number, 0), rows)
        except psycopg.Error as error:
            raise_if_lost(error)
            self.unforeseen.append(f"{said} ({reason(error)})")
            return 0
        return rows

    def _may_be_evaluated(self, rule: Rule) -> bool:
        return self._is_stable(rule, self._counting([rule], table(self._image.on)))

    def _is_stable(self, rule: Rule, query: Composed) -> bool:
        """Whether a query calls only what a dry run may call."""
        try:
            with self._conn.transaction():
                volatile.acknowledged(self._conn, self._spec, query, rule.said)
        except psycopg.Error as error:
            raise_if_lost(error)
            self.unforeseen.append(f"{rule.said} ({reason(error)})")
            return False
        except RunbookError:
            self.unforeseen.append(f"{rule.said} (something in it is volatile)")
            return False
        return True

    def _alone(self, rule: Rule) -> int:
        try:
            rows: int = self._counted([rule])["rows"]
            self._note(rule.said, rows, partial(self._keys, rule))
        except psycopg.Error as error:
            raise_if_lost(error)
            self.unforeseen.append(f"{rule.said} ({reason(error)})")
            return 0
        return rows

    def _note(self, said: str, rows: int, keys: Callable[[], Sequence[Row]]) -> None:
        if rows:
            self.refused.append(Refusal(said, rows, [row["key"] for row in keys()]))

    def _counted(self, rules: Sequence[Rule]) -> Row:
        """How many rows each of the rules refuses, and all together."""
        counting = partial(self._counting, rules)
        on, info, workers = self._image.on, self._image.info, self._spec.workers
        if self._pages:
            found = page_ranges.of_pages(self._conn, info, self._pages.ranges, counting)
            if not found["rows"]:
                self.pages_read = len(self._pages.ranges)
                return found
        return page_ranges.summed(self._conn, on, info, counting, workers)

    def _keys(self, rule: Rule) -> Sequence[Row]:
        """The keys of some rows that a rule refuses."""
        broken, most = partial(self._broken, rule), refused_rows.MAX_NAMED
        return page_ranges.some(self._conn, self._image.on, self._image.info, broken, most)

    def _keys_of_unique(self, index: UniqueIndex) -> Sequence[Row]:
        return self._conn.execute(self._of_unique(index), ()).fetchall()

    def _counting(self, rules: Sequence[Rule], among: Composable) -> Composed:
        counts = [
            SQL("count(*) FILTER (WHERE {}) AS {}").format(rule.broken, name(f"n{n}"))
            for n, rule in enumerate(rules)
        ]
        broken = eligibility.any_of(rule.broken for rule in rules)
        counts += [
            SQL("count(*) FILTER (WHERE ({} OR {}) AND {}) AS {}").format(
                *(self._image.extra(kind, c.number) for kind in (MOVES, LARGE)),
                broken,
                name(f"left{c.number}"),
            )
            for c in self._image.filled
        ]
        return SQL("SELECT {}, count(*) FILTER (WHERE {}) AS rows FROM {}").format(
            comma(counts),
            broken,
            self._image.rows(among, whole_row=any(rule.whole_row for rule in rules)),
        )

    def _broken(self, rule: Rule, among: Composable) -> Composed:
        return SQL("SELECT {} AS key FROM {} WHERE {} LIMIT {}").format(
            name(KEY),
            self._image.rows(among, whole_row=rule.whole_row),
            rule.broken,
            Literal(refused_rows.MAX_NAMED),
        )

    def _unique(self, index: UniqueIndex) -> Composed:
        moves = self._image.moves(self._image.touched(index.mentions))
        return SQL(
            "SELECT coalesce(sum(moving - CASE WHEN standing = 0 THEN 1 ELSE 0 END), 0)::int8 AS n"
            " FROM (SELECT count(*) FILTER (WHERE {moves}) AS moving,"
            " count(*) FILTER (WHERE NOT {moves}) AS standing FROM {rows} WHERE {among}"
            " GROUP BY {keys}) pgrunbook_groups WHERE moving > 0 AND moving + standing > 1"
        ).format(
            moves=moves,
            rows=self._image.rows(table(self._image.on), everyone=True),
            among=_among(index),
            keys=comma(map(text, index.keys)),
        )

    def _of_unique(self, index: UniqueIndex) -> Composed:
        keys = comma(map(text, index.keys))
        return SQL(
            "SELECT {key} AS key FROM (SELECT {key}, {moves} AS moves, count(*) OVER (PARTITION BY"
            " {keys}) AS rows, row_number() OVER (PARTITION BY {keys} ORDER BY {moves}) AS n"
            " FROM {rows} WHERE {among}) pgrunbook_same WHERE moves AND rows > 1 AND n > 1"
            " LIMIT {most}"
        ).format(
            most=Literal(refused_rows.MAX_NAMED),
            key=name(KEY),
            moves=self._image.moves(self._image.touched(index.mentions)),
            keys=keys,
            rows=self._image.rows(table(self._image.on), everyone=True),
            among=_among(index),
        )


def _among(index: UniqueIndex) -> Composed:
    """Which rows a unique index compares."""
    conditions: list[Composable] = [SQL("true")]
    if index.predicate is not None:
        conditions.append(SQL("({})").format(text(index.predicate)))
    if not index.nulls_too:
        conditions += [SQL("({}) IS DISTINCT FROM NULL").format(text(key)) for key in index.keys]
    return SQL(" AND ").join(conditions)


def _has_own(conn: Connection, leaf: int) -> bool:
    """Whether a partition has constraints or unique indexes that its parent has not."""
    return bool(one(conn, sql.OWN, (leaf, leaf))["own"])
