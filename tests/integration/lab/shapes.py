# SPDX-License-Identifier: GPL-3.0-or-later
"""What an example is made of: a table before the run, the phase's variables, and a script."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass

SCHEMA = "lab"

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
class Example:
    """A table, how its run begins, and what happens on its way there and back."""

    table: Table
    way: Way
    canary_rows: int
    there: Script
    back: Script
