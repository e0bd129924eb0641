# SPDX-License-Identifier: GPL-3.0-or-later
"""A column gets its right name: which ones, with what SQL, and what undoes it."""

from __future__ import annotations

from ..catalog import TableInfo, conversion, present_names
from ..core.spec import Column, Spec
from ..core.sql import rename_column, render
from .step import Step

LOCK = "ACCESS EXCLUSIVE, for the catalog change only: milliseconds once it is granted"


def pending(spec: Spec, info: TableInfo) -> list[Column]:
    """The columns that only have to be renamed. Raises RunbookError where a column is there under
    both names or under neither."""
    names = present_names(spec, info)
    converted = {each.column.name for each in conversion.pending(spec, info)}
    return [
        c
        for c in spec.columns
        if c.renamed_from and names[c.name] == c.renamed_from and c.name not in converted
    ]


def step(spec: Spec, info: TableInfo) -> Step:
    """The step of a plan that renames what is pending."""
    names = [(column.renamed_from or "", column.name) for column in pending(spec, info)]
    return Step(
        "rename",
        "Rename the column",
        statements=tuple(render(rename_column(spec.table, old, new)) for old, new in names),
        undo=tuple(render(rename_column(spec.table, new, old)) for old, new in names),
        lock=LOCK,
        needed=bool(names),
    )
