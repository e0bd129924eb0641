# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns tell the table's rows apart, and which of them refer to the source."""

from __future__ import annotations

from collections.abc import Iterator

from .casts import are_comparable
from .likeness import GENERIC, LIKELY, refers, words
from .seen import MOSTLY, Seen, SeenIndex, SeenTable
from .value import Note, ProposedKey, ProposedSourceKey

_FAR_APART = 1.5
"""How many times as many values as the source has rows a column may seem to have, and still refer
to it: both numbers are estimates."""


def key(of: SeenTable) -> ProposedKey:
    """The primary key, or the narrowest unique index whose columns are NOT NULL."""
    usable = [i for i in of.indexes if i.unique and i.not_null and i.plain]
    primary = [i for i in usable if i.primary]
    if primary:
        return ProposedKey(primary[0].columns, (Note("known", "the primary key"),))
    if not usable:
        return ProposedKey((), (Note("todo", _no_key(of)),))
    first, *others = sorted(usable, key=lambda i: (len(i.columns), i.name))
    said = f"there is no primary key, and {first.name} is the narrowest unique index without NULL"
    if others:
        said += f"; others are {', '.join(i.name for i in others)}"
    return ProposedKey(first.columns, (Note("guessed", said),))


def _no_key(of: SeenTable) -> str:
    return (
        f"{of.table} has no unique index on columns that are all NOT NULL. Make one and name its "
        "columns here; or write [] and phase_waive_rollback: true, to go without a rollback"
    )


def source_key(seen: Seen) -> ProposedSourceKey:
    """The foreign key to the source if there is one, else what looks like one."""
    keys = {tuple(sorted(f.pairs.items())): f for f in seen.foreign_keys}
    if len(keys) == 1:
        (only,) = keys.values()
        return ProposedSourceKey(only.pairs, (Note("known", f"foreign key {only.name}"),))
    if keys:
        said = f"{len(keys)} foreign keys refer to {seen.source.table}; keep the one that is meant"
        return ProposedSourceKey({}, (Note("todo", said),), tuple(f.pairs for f in keys.values()))
    found = sorted(_candidates(seen), key=lambda c: (-c[0], len(c[1])))
    if not found:
        return ProposedSourceKey({}, (Note("todo", _nothing_refers(seen)),))
    best = [
        pairs
        for likeness, pairs, _ in found
        if (likeness, len(pairs)) == (found[0][0], len(found[0][1]))
    ]
    if len(best) > 1:
        said = "there is no foreign key, and several could be meant; keep one"
        return ProposedSourceKey({}, (Note("todo", said),), tuple(best))
    _, pairs, by = found[0]
    said = f"there is no foreign key; the names and types match, and {by}"
    others = sorted({", ".join(each) for _, each, _ in found[1:]} - {", ".join(pairs)})
    if others:
        said += f"; {' or '.join(others)} could be meant too"
    return ProposedSourceKey(pairs, (Note("guessed", said),))


def _nothing_refers(seen: Seen) -> str:
    if not any(i.unique for i in seen.source.indexes) and not seen.source.view:
        return (
            f"there is no foreign key to {seen.source.table}, and it has no unique index, so "
            "nothing says which row of it fills which. Name the columns that refer to it; a dry "
            "run looks for keys that occur twice"
        )
    return (
        f"there is no foreign key to {seen.source.table}, and no column looks like its key. Name "
        "the columns that refer to it"
    )


def _candidates(seen: Seen) -> Iterator[tuple[float, dict[str, str], str]]:
    """What could refer to the source: how likely, the pairs, and what speaks for it."""
    unique = [i for i in seen.source.indexes if i.unique]
    told: set[tuple[str, ...]] = set()
    for index in sorted(unique, key=lambda i: (not i.primary, len(i.columns))):
        if tuple(sorted(index.columns)) not in told:
            told.add(tuple(sorted(index.columns)))
            by = f"{index.name} is unique on the source's side"
            for likeness, pairs in _matches(seen, index.columns):
                yield likeness, pairs, by
    if seen.source.view and not unique:
        by = "the source is a view: a dry run looks for keys that occur twice"
        for column in seen.source.columns:
            for likeness, pairs in _matches(seen, (column,)):
                if likeness >= _SURE:
                    yield likeness, pairs, by


_SURE = 0.95
"""What counts where no index says which column of the source is its key."""


def _matches(seen: Seen, theirs: tuple[str, ...]) -> list[tuple[float, dict[str, str]]]:
    """The columns of the table that could refer to these together: of a single one each that is
    likely, of several the likeliest."""
    found = [_alike(seen, column) for column in theirs]
    if not all(found):
        return []
    if len(found) == 1:
        return [(likeness, {ours: theirs[0]}) for likeness, ours in found[0]]
    best = [max(each) for each in found]
    pairs = {ours: column for (_, ours), column in zip(best, theirs, strict=True)}
    if len(pairs) < len(theirs):
        return []
    return [(min(likeness for likeness, _ in best), pairs)]


def _alike(seen: Seen, column: str) -> list[tuple[float, str]]:
    theirs, own = seen.source.columns[column], _own_key(seen.table)
    return [
        (likeness, ours.name)
        for ours in seen.table.columns.values()
        if are_comparable(ours, theirs)
        and (ours.nulls or 0) < MOSTLY
        and (likeness := refers(ours.name, column, seen.source.name)) >= LIKELY
        and not (ours.name == own and GENERIC.issuperset(words(own)))
        and not (0 < seen.source.rows * _FAR_APART < (ours.distinct or 0))
    ]


def _own_key(of: SeenTable) -> str:
    """The column that is the table's primary key alone; orders.id does not refer to customers.id,
    though they have one name."""
    primary: list[SeenIndex] = [i for i in of.indexes if i.primary and len(i.columns) == 1]
    return primary[0].columns[0] if primary else ""
