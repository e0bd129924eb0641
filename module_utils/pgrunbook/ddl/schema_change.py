# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module that changes the schema returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..catalog import TableInfo
from ..core.spec import Table

Schema = Mapping[str, Mapping[str, str]]
"""A table's columns and indexes, each by name, as TableInfo.schema() has them."""


@dataclass(frozen=True)
class Diff:
    """What Ansible shows with --diff: two texts, each under a heading."""

    before_header: str
    after_header: str
    before: str
    after: str

    @classmethod
    def of(cls, what: str, before: str, after: str) -> Diff:
        """The diff of one thing, which has the same name before and after."""
        return cls(what, what, before, after)


@dataclass(frozen=True)
class SchemaChange:
    """What was done to columns or indexes, or in a dry run would be: the SQL, the table's columns
    and indexes afterwards, and the difference. warnings say what a person has to look after."""

    changed: bool
    queries: list[str]
    schema: Schema
    diff: Diff
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        table: Table,
        part: str,
        before: TableInfo,
        after: Schema,
        queries: Sequence[str],
        warnings: Sequence[str] = (),
    ) -> SchemaChange:
        """A change of "columns" or "indexes", which is the part that the diff shows."""
        return cls(
            changed=bool(queries),
            queries=list(queries),
            schema=after,
            diff=Diff.of(
                f"{part} of {table}", _listing(before.schema()[part]), _listing(after[part])
            ),
            warnings=list(warnings),
        )


def _listing(entries: Mapping[str, str]) -> str:
    return "".join(f"{name}: {entry}\n" for name, entry in entries.items())
