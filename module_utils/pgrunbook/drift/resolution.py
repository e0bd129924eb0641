# SPDX-License-Identifier: GPL-3.0-or-later
"""A way out of a difference. It is written down once, for an ordinary table (Way); what becomes of
it for a view, a partitioned table, or a table of another owner (Resolution) is decided here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from psycopg.sql import Composable

from ..core import printable
from ..core.spec import Table
from ..core.sql import is_alone, render, script

BRIEFLY = "ACCESS EXCLUSIVE on the table, for the catalog change only: milliseconds"
BUILDING = "no lock that readers or writers wait for; reads the table twice, in its own time"
VALIDATED = (
    "a lock for milliseconds, then SHARE UPDATE EXCLUSIVE while all rows are read: reads and "
    "writes go on; fails while rows contradict it"
)
CODE = "no lock, no change of the database; every use in the code has to be found and released"
ONE_LINE = "no lock, no change of the database; one line in the models, and a release"
AS_IT_IS = "the database stays as it is"
NO_RELEASE = "the application stays as it is, without a release"

Transactions = Sequence[Sequence[Composable | str]]
"""Statements by the transactions that they belong in."""


@dataclass(frozen=True)
class Subject:
    """The table that a difference is of, as far as it decides the ways out. view: it is a view or a
    foreign table, whose columns are not altered here. owner is empty where the login role may alter
    the table itself. lock_timeout_ms is how long a statement may wait for its lock."""

    table: Table
    lock_timeout_ms: int
    view: bool = False
    partitioned: bool = False
    owner: str = ""

    @property
    def name(self) -> str:
        """The table's name without its schema."""
        return self.table.name


@dataclass(frozen=True)
class Way:
    """A way out for an ordinary table: what to do (option), a statement or transactions that do it,
    what they cost, and what speaks for them (gains)."""

    option: str
    recommended: bool = False
    sql: Composable | Transactions = ()
    costs: str = ""
    gains: str = ""


@dataclass(frozen=True)
class Resolution:
    """A way out for the table that a difference is of: what to do (option), the SQL that does it,
    as it can be copied, empty where there is none, what it costs (lock, rewrite, effort), and what
    speaks for it (gains)."""

    option: str
    sql: str
    costs: str
    recommended: bool
    gains: str = ""


def resolution(on: Subject, way: Way) -> Resolution:
    """A way out as it is for this table."""
    transactions = _rendered(way.sql)
    if transactions and on.view:
        way, transactions = _in_the_view(way), []
    elif transactions and on.partitioned:
        way, transactions = _of_partitioned(way, transactions)
    by_whom = f"; its owner {on.owner} has to do it" if transactions and on.owner else ""
    shown = [[printable.sql(statement) for statement in each] for each in transactions]
    return Resolution(
        way.option,
        script(shown, on.lock_timeout_ms),
        f"{way.costs}{by_whom}",
        way.recommended,
        way.gains,
    )


def _rendered(sql: Composable | Transactions) -> list[list[str]]:
    given = [[sql]] if isinstance(sql, Composable) else sql
    return [[s if isinstance(s, str) else render(s) for s in each] for each in given]


def _in_the_view(way: Way) -> Way:
    return replace(
        way,
        option=f"{way.option}, in the view's definition",
        costs="no lock on the tables that it reads; whatever else reads the view sees it",
    )


def _of_partitioned(way: Way, transactions: list[list[str]]) -> tuple[Way, list[list[str]]]:
    """The way out for a partitioned table. PostgreSQL does nothing to an index of it CONCURRENTLY,
    and before version 18 adds no foreign key NOT VALID."""
    statements = [statement for each in transactions for statement in each]
    if any(is_alone(s) and not s.startswith("DROP") for s in statements):
        steps = (
            ": CREATE INDEX … ON ONLY the table, CREATE INDEX CONCURRENTLY on each partition, "
            "ALTER INDEX … ATTACH PARTITION each"
        )
        return replace(way, option=f"{way.option}{steps}"), []
    if any(map(is_alone, statements)):
        costs = "ACCESS EXCLUSIVE on the table and its partitions: milliseconds"
        dropped = [s.replace(" CONCURRENTLY", "", 1) for s in statements]
        return replace(way, costs=costs), [dropped]
    if any(" FOREIGN KEY " in s for s in statements):
        costs = "SHARE ROW EXCLUSIVE on both tables while all rows are read: writers wait"
        return replace(way, costs=costs), [[statements[0].removesuffix(" NOT VALID")]]
    return way, transactions
