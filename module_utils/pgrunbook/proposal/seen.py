# SPDX-License-Identifier: GPL-3.0-or-later
"""Two tables as far as a proposal depends on them, as plain values: from the catalog, the planner's
statistics and the models."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.spec import Table
from ..drift.expected import Expected

MOSTLY = 0.5
"""From which share of NULL on a column counts as one that is to be filled, and that says nothing of
which row of the source belongs to it."""


@dataclass(frozen=True)
class SeenColumn:
    """A column. type is format_type()'s spelling, base the same without length or precision, quoted
    its name as SQL takes it. One that is generated is not fillable. nulls is the share of its rows
    without a value, from 0 to 1, and distinct the number of its values; both are None where there
    are no statistics."""

    name: str
    type: str
    base: str
    oid: int
    quoted: str
    not_null: bool = False
    fillable: bool = True
    nulls: float | None = None
    distinct: float | None = None


@dataclass(frozen=True)
class SeenIndex:
    """An index that is valid, on columns only. unique: it tells all rows apart. not_null: none of
    its columns may be NULL. replaceable: it can be dropped and built again by the runbook."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False
    primary: bool = False
    not_null: bool = False
    plain: bool = True
    replaceable: bool = False
    include: tuple[str, ...] = ()
    where: str = ""
    method: str = "btree"


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key from the table to the source, as {column: column of the source}."""

    name: str
    pairs: dict[str, str]


@dataclass(frozen=True)
class SeenTable:
    """A table, or what else is read. rows is the planner's estimate, -1 before the first
    ANALYZE."""

    table: Table
    rows: int
    columns: dict[str, SeenColumn]
    indexes: tuple[SeenIndex, ...] = ()
    view: bool = False

    @property
    def name(self) -> str:
        """Its name without the schema."""
        return self.table.name


@dataclass(frozen=True)
class Seen:
    """All that a proposal is made of. casts has the pairs of types, by oid, that PostgreSQL casts
    without being asked to. expected is None without models, triggers has those that an UPDATE of
    any column would fire."""

    table: SeenTable
    source: SeenTable
    foreign_keys: tuple[ForeignKey, ...] = ()
    casts: frozenset[tuple[int, int]] = frozenset()
    expected: Expected | None = None
    triggers: tuple[str, ...] = ()
    children: bool = False
    partition_keys: frozenset[str] = field(default_factory=frozenset)
