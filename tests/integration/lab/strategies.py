# SPDX-License-Identifier: GPL-3.0-or-later
"""How Hypothesis draws examples."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.integration.lab.shapes import (
    KEYS,
    VALUES,
    Change,
    ChangeKey,
    ChangeSource,
    Delete,
    Example,
    Field,
    Insert,
    Note,
    Refer,
    Row,
    Script,
    Slice,
    Table,
    TakeOver,
    Way,
    Write,
)

MAX_ROWS = 300

NAMES = (
    *("a", "b", "c", "d", "e", "f", "g", "h"),
    *('Weird "Key"', "100% %s %(x)s", "ключ é", "{0} {}", "it's \\ --;"),
    *("t", "s", "p", "v0", "v1", "k0", "k1", "tid", "entry", "picked", "filled", "tableOID"),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = iter(draw(st.permutations(NAMES)))

    def fields(*types: str) -> tuple[Field, ...]:
        return tuple(Field(next(names), type) for type in types)

    types = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    key = draw(st.sampled_from(list(KEYS)))
    reference = ["text"] * draw(st.integers(1, 2))
    sources = draw(st.lists(_values(types), max_size=5))
    rows = draw(st.lists(_rows(types, len(sources)), max_size=12))
    return Table(
        name=next(names),
        key=fields(*draw(st.sampled_from([(key,), ("text", key)]))),
        columns=fields(*types),
        reference=fields(*reference),
        rows=tuple(rows),
        copies=draw(st.integers(1, MAX_ROWS // max(len(rows), 1))),
        source_name=next(names),
        source_key=fields(*reference),
        source_columns=fields(*types),
        sources=tuple(sources),
        partitioned_by=draw(st.sampled_from(["", "", "LIST", "HASH"])),
        fillfactor=draw(st.sampled_from([100, 50, 10])),
        padding=draw(st.sampled_from([0, 100, 700])),
        analyzed=draw(st.booleans()),
    )


def _values(types: list[str]) -> st.SearchStrategy[tuple[str | None, ...]]:
    """Values of these columns, about every third of them NULL."""
    return st.tuples(*(st.sampled_from([None, None, *VALUES[type]]) for type in types))


def _rows(types: list[str], sources: int) -> st.SearchStrategy[Row]:
    """A row that refers to one of the sources, to one that is not there, or to none. Most rows
    lack values."""
    there, nothing = st.integers(0, max(sources - 1, 0)), st.just((None,) * len(types))
    source = st.one_of(there, there, there, st.just(sources), st.none())
    return st.builds(Row, source, nothing | _values(types))


def ways(table: Table) -> st.SearchStrategy[Way]:
    strategies = ["auto", "ranges", "interleaved"]
    if not table.partitioned_by:
        strategies += ["keyset"] * 3
    return st.builds(
        Way,
        strategy=st.sampled_from(strategies),
        workers=st.integers(1, 3),
        batch_rows=st.integers(1, 50),
        batch_target_ms=st.sampled_from([1, 5, 100]),
    )


def changes(table: Table) -> st.SearchStrategy[Change]:
    types, which = [column.type for column in table.columns], st.integers(0, 6)
    write = st.integers(0, len(types) - 1).flatmap(
        lambda column: st.builds(
            Write, which, st.just(column), st.sampled_from([*VALUES[types[column]], None])
        )
    )
    return st.one_of(
        *(write, write, write),
        st.builds(Insert, _rows(types, len(table.sources)), st.integers(1, 30)),
        st.builds(Delete, which),
        st.builds(Note, which),
        st.builds(ChangeKey, which),
        st.builds(Refer, which, st.integers(0, 5) | st.none()),
        st.builds(ChangeSource, st.integers(0, 5), st.none() | _values(types)),
    )


def scripts(table: Table, *more: st.SearchStrategy[Any]) -> st.SearchStrategy[Script]:
    """Slices and takeovers, and more."""
    take_over = st.builds(TakeOver, st.booleans(), ways(table))
    parts = st.one_of(st.just(Slice()), st.just(Slice()), st.just(Slice()), take_over, *more)
    return st.lists(parts, max_size=7).map(tuple)


@st.composite
def examples(draw: st.DrawFn, *, busy: bool) -> Example:
    table = draw(tables())
    more = [changes(table)] * 4 if busy else []
    return Example(
        table,
        draw(ways(table)),
        draw(st.integers(1, 60)),
        draw(scripts(table, *more)),
        draw(scripts(table, *more)),
    )
