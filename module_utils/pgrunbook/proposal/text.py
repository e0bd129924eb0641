# SPDX-License-Identifier: GPL-3.0-or-later
"""A proposal as a person reads it: a line a finding, how sure it is, and what is left to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from ..core import printable
from .value import MARKS, Note, Proposal, ProposedColumn, ProposedIndex

WIDTH = 80
_MARGIN = 14


def text(of: Proposal) -> str:
    """What was found, then how much of it is guessed or left to do."""
    of = printable.every(of, printable.line)
    lines = [
        *_told("table", f"{of.table}, {_rows(of.rows)}", ()),
        *_told("source", f"{of.source}, {_rows(of.source_rows)}", ()),
    ]
    lines += _told("key", ", ".join(of.key.columns), of.key.notes)
    pairs = ", ".join(f"{ours} = {theirs}" for ours, theirs in of.source_key.pairs.items())
    lines += _told("source key", pairs, of.source_key.notes)
    for pairs in (" and ".join(f"{o} = {t}" for o, t in c.items()) for c in of.source_key.choices):
        lines += _wrapped("", f"perhaps {pairs}")
    for column in of.columns:
        lines += _told("column", _column(column), column.notes)
    for index, after in zip(of.indexes, [*of.indexes[1:], None], strict=False):
        same = after is not None and after.notes == index.notes
        lines += _told("index", _index(index), () if same else index.notes)
    for note in of.notes:
        lines += _wrapped(MARKS[note.kind].rstrip(": "), note.said)
    return "\n".join([*lines, "", _sum(of)])


def notes_of(of: Proposal) -> Iterator[Note]:
    """Everything that is said of a proposal."""
    yield from (*of.key.notes, *of.source_key.notes, *of.notes)
    yield from (note for column in of.columns for note in column.notes)
    yield from (note for index in of.indexes for note in index.notes)


def _sum(of: Proposal) -> str:
    kinds = [note.kind for note in notes_of(of)]
    guessed, left = kinds.count("guessed"), kinds.count("todo")
    rest = f"{left} TO DO, until when a dry run refuses" if left else "nothing left to fill in"
    return f"{guessed} guessed, to be checked; {rest}."


def _rows(number: int) -> str:
    return "never analyzed" if number < 0 else f"about {number:,} rows"


def _column(of: ProposedColumn) -> str:
    source = f"from {of.source}" if of.source else "from what is not known"
    renamed = f", renamed from {of.renamed_from}" if of.renamed_from else ""
    return f"{of.name} {of.type}, {source}{renamed}"


def _index(of: ProposedIndex) -> str:
    return f"{of.name} ({', '.join(of.columns)})"


def _told(label: str, said: str, notes: Iterable[Note]) -> list[str]:
    """A finding in one line, if it fits, with what is to be said of it."""
    parts = [f"{MARKS[note.kind]}{note.said}" for note in notes]
    whole = "; ".join(parts)
    line = f"  {label:<{_MARGIN - 2}}{said}"
    if not said:
        return _wrapped(label, whole)
    if len(line) + len(whole) + 2 <= WIDTH:
        return [f"{line}  {whole}".rstrip()]
    return [line, *(part for each in parts for part in _wrapped("", each))]


def _wrapped(label: str, said: str) -> list[str]:
    return textwrap.wrap(
        said,
        WIDTH,
        initial_indent=f"  {label:<{_MARGIN - 2}}",
        subsequent_indent=" " * _MARGIN,
        break_long_words=False,
        break_on_hyphens=False,
    )
