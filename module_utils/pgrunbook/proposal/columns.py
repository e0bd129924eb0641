# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns of the table are to be filled, and from what: those that the models call otherwise,
and those that are mostly NULL and look like a column of the source."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from ..core.spec_checks import TO_DO
from ..drift.types import fits
from .casts import expression
from .likeness import LIKELY, fills
from .seen import MOSTLY, Seen, SeenColumn
from .value import Note, ProposedColumn

_CLEARLY = 0.05
"""By how much a source column has to look better than the next one."""
_SURE = 0.8
"""How alike names have to be where there are no statistics."""


@dataclass(frozen=True)
class _Pair:
    """A column of the table under its right name, the column of the source that it looks like, and
    others that it looks like as much."""

    ours: SeenColumn
    name: str
    likeness: float
    theirs: SeenColumn | None
    others: tuple[str, ...] = ()


def columns(seen: Seen, taken: Collection[str]) -> tuple[ProposedColumn, ...]:
    """The columns in the table's order; taken are those of the keys, which are not filled."""
    return tuple(_proposed(seen, pair) for pair in _pairs(seen, taken)[0])


def passed_over(seen: Seen, taken: Collection[str]) -> Iterator[Note]:
    """The columns that look like one of the source that another column looks like as much, or more;
    and those that are mostly NULL and look like none."""
    for pair in _pairs(seen, taken)[1]:
        if pair.theirs:
            why = f"which looks like {pair.theirs.name} too"
        elif pair.ours.nulls is not None:
            why = f"which is {_nulls(pair.ours)} and looks like no column of {seen.source.table}"
        else:
            continue
        yield Note("unknown", f"whether {pair.name}, {why}, is to be filled")


def _pairs(seen: Seen, taken: Collection[str]) -> tuple[list[_Pair], list[_Pair]]:
    """Those to be filled, each from a column of its own, the nearest pairs first; and all
    others."""
    right = {r.old: r.new for r in seen.expected.renamed} if seen.expected else {}
    wanted = [_nearest(seen, c, right.get(c.name, c.name)) for c in _candidates(seen, taken)]
    used: dict[str, str] = {}
    for pair in sorted(wanted, key=lambda p: -p.likeness):
        if pair.theirs and not pair.others:
            used.setdefault(pair.theirs.name, pair.name)
    kept = [
        pair
        for pair in wanted
        if pair.ours.name in right
        or pair.others
        or (pair.theirs and used[pair.theirs.name] == pair.name)
    ]
    return kept, [pair for pair in wanted if pair not in kept]


def _candidates(seen: Seen, taken: Collection[str]) -> Iterator[SeenColumn]:
    renamed = {r.old for r in seen.expected.renamed} if seen.expected else set()
    modelled = {*seen.expected.columns, *renamed} if seen.expected else seen.table.columns.keys()
    for column in seen.table.columns.values():
        free = column.name not in {*taken, *seen.partition_keys} and column.fillable
        empty = not column.not_null and (column.nulls is None or column.nulls >= MOSTLY)
        if free and column.name in modelled and (column.name in renamed or empty):
            yield column


def _nearest(seen: Seen, ours: SeenColumn, name: str) -> _Pair:
    least = _SURE if ours.nulls is None else LIKELY
    ranked = sorted(
        (
            (fills(name, theirs.name), theirs.base == ours.base, theirs.name)
            for theirs in seen.source.columns.values()
        ),
        reverse=True,
    )
    likely = [each for each in ranked if each[0] >= least]
    if not likely:
        return _Pair(ours, name, 0.0, None)
    first = max(likely, key=lambda each: (each[0] > likely[0][0] - _CLEARLY, each[1], each[0]))
    near = [each for each in likely if each[0] > first[0] - _CLEARLY and each[1] == first[1]]
    theirs = seen.source.columns[first[2]]
    others = tuple(sorted(n for _, _, n in near)) if len(near) > 1 else ()
    return _Pair(ours, name, first[0], theirs, others)


def _proposed(seen: Seen, pair: _Pair) -> ProposedColumn:
    type_, notes = _typed(seen, pair)
    renamed = "" if pair.name == pair.ours.name else pair.ours.name
    if renamed and seen.expected:
        (found,) = [r for r in seen.expected.renamed if r.old == renamed]
        said = f"the models lack {renamed}; the names are {_per_cent(found.likeness)} alike"
        notes = [Note("guessed", said), *notes]
    source, more = _source(seen, pair, type_)
    return ProposedColumn(pair.name, type_, source, renamed, (*notes, *more))


def _typed(seen: Seen, pair: _Pair) -> tuple[str, list[Note]]:
    """The type that the phase gives, and what is to be said where the models say another one."""
    found = pair.ours.type
    modelled = seen.expected.types.get(pair.name, found) if seen.expected else found
    if modelled == found:
        return found, []
    if fits(found, modelled):
        said = f"why the models say {modelled}; a phase that fills it leaves it {found}"
        return found, [Note("unknown", said)]
    said = (
        f"it is {found}, and the models say {modelled}. Correct the type; or set converted_from "
        "and using, as a dry run says"
    )
    return modelled, [Note("todo", said)]


def _source(seen: Seen, pair: _Pair, type_: str) -> tuple[str, list[Note]]:
    if pair.theirs is None:
        return "", [
            Note("todo", f"no column of {seen.source.table} looks like it; write what fills it")
        ]
    if pair.others:
        said = f"{' and '.join(pair.others)} look like it; write which one fills it"
        return "", [Note("todo", said)]
    same = type_ == pair.ours.type
    base = pair.ours.base if same else type_.partition("(")[0]
    made = expression(pair.theirs, type_, base, pair.ours.oid if same else 0, seen.casts)
    why = f"{_nulls(pair.ours)}, named like {pair.theirs.name}"
    if not made.sql:
        return "", [
            Note("todo", f"{why}; but {made.loses}. Write the expression that makes it one")
        ]
    notes = [Note("guessed", f"{why} ({_per_cent(pair.likeness)})")]
    return made.sql, notes + ([Note("guessed", made.loses)] if made.loses else [])


def _nulls(of: SeenColumn) -> str:
    if of.nulls is None:
        return "without statistics"
    if of.nulls >= 1:
        return "NULL in every row"
    return f"NULL in {_per_cent(min(of.nulls, 0.999), 1)} of the rows"


def _per_cent(share: float, digits: int = 0) -> str:
    return f"{share * 100:.{digits}f} %"


def with_place(column: ProposedColumn) -> ProposedColumn:
    """The column as its file has it: where the source is not known there is a place to fill in."""
    return column if column.source else replace(column, source=TO_DO)
