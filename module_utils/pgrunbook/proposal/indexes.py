# SPDX-License-Identifier: GPL-3.0-or-later
"""Which indexes belong into the phase: on the columns that it fills, those of the models that the
table lacks or calls otherwise, and those that are there and can be dropped meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..drift.expected import ExpectedIndex
from .seen import Seen, SeenIndex
from .value import Note, ProposedColumn, ProposedIndex

KEPT = "there already; a run may drop it, and build it again"


def indexes(seen: Seen, columns: Sequence[ProposedColumn]) -> tuple[ProposedIndex, ...]:
    """The indexes on the columns that are filled, under their right names."""
    right = {c.renamed_from: c.name for c in columns if c.renamed_from}
    names = {c.name for c in columns}
    there = {i.name: i for i in seen.table.indexes}
    modelled = list(_of_models(seen, names, there))
    told = {n for each in modelled for n in (each.name, each.renamed_from)}
    kept = [
        _kept(index, right)
        for index in seen.table.indexes
        if index.replaceable and index.name not in told
    ]
    return (*modelled, *(each for each in kept if names & {*each.columns, *each.include}))


def left_out(seen: Seen, columns: Sequence[ProposedColumn]) -> Iterator[Note]:
    """The models' indexes on the filled columns that a phase cannot describe, and the table
    lacks."""
    names = {c.name for c in columns}
    for index in seen.expected.indexes if seen.expected else ():
        if (
            not index.now
            and not index.buildable
            and (names & {*index.columns} or not index.columns)
        ):
            said = f"index {index.name} of the models, {index.definition}: a phase builds none such"
            yield Note("unknown", said)


def _of_models(seen: Seen, names: set[str], there: dict[str, SeenIndex]) -> Iterator[ProposedIndex]:
    for index in seen.expected.indexes if seen.expected else ():
        if not index.buildable or not names & {*index.columns, *index.include}:
            continue
        if not index.now:
            yield _expected(index, Note("known", "of the models; the table lacks it"))
        elif index.now != index.name:
            said = f"of the models; the table calls it {index.now}"
            yield _expected(index, Note("known", said), renamed_from=index.now)
        elif index.name in there and there[index.name].replaceable:
            yield _expected(index, Note("known", KEPT))


def _expected(index: ExpectedIndex, note: Note, renamed_from: str = "") -> ProposedIndex:
    return ProposedIndex(
        index.name,
        index.columns,
        (note,),
        renamed_from=renamed_from,
        include=index.include,
        method=index.method,
    )


def _kept(index: SeenIndex, right: dict[str, str]) -> ProposedIndex:
    return ProposedIndex(
        index.name,
        tuple(right.get(c, c) for c in index.columns),
        (Note("known", KEPT),),
        include=tuple(right.get(c, c) for c in index.include),
        where=index.where,
        method=index.method,
    )
