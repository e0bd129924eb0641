# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase as it is proposed: what goes into its file, and what is to be said of each part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..core.spec import Table
from ..core.spec_checks import TO_DO

Kind = Literal["known", "guessed", "todo", "unknown"]
"""How sure something is: the catalog or the models say so; it was concluded from names or
statistics; a person has to fill it in, or the dry run refuses; nothing here depends on it."""

MARKS: dict[Kind, str] = {
    "known": "",
    "guessed": "guessed: ",
    "todo": f"{TO_DO}: ",
    "unknown": "not known: ",
}


@dataclass(frozen=True)
class Note:
    """A sentence, without its full stop, on a part of the phase."""

    kind: Kind
    said: str

    def __str__(self) -> str:
        if self.kind == "known":
            return self.said[:1].upper() + self.said[1:]
        return f"{MARKS[self.kind]}{self.said}"


@dataclass(frozen=True)
class ProposedKey:
    """The columns that tell rows apart; empty where there is no unique index for that."""

    columns: tuple[str, ...]
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class ProposedSourceKey:
    """Which column of the table refers to which one of the source; empty where several could be
    meant, which are the choices then, or none."""

    pairs: dict[str, str]
    notes: tuple[Note, ...]
    choices: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class ProposedColumn:
    """A column to be filled. source is an SQL expression on the source, empty where it is not known
    which."""

    name: str
    type: str
    source: str
    renamed_from: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class ProposedIndex:
    """An index on a column that is filled."""

    name: str
    columns: tuple[str, ...]
    notes: tuple[Note, ...]
    renamed_from: str = ""
    include: tuple[str, ...] = ()
    where: str = ""
    method: str = "btree"


@dataclass(frozen=True)
class Proposal:
    """What the phase file of a table, filled from its source, could say. rows are the planner's
    estimates, -1 where the table was never analyzed."""

    table: Table
    source: Table
    rows: int
    source_rows: int
    key: ProposedKey
    source_key: ProposedSourceKey
    columns: tuple[ProposedColumn, ...]
    indexes: tuple[ProposedIndex, ...]
    notes: tuple[Note, ...]
