# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the proposal of a phase: look, then guess."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..core.connection import Connection
from ..core.errors import RunbookError
from .columns import columns, passed_over
from .indexes import indexes, left_out
from .keys import key, source_key
from .look import look
from .names import meant
from .seen import Seen, SeenTable
from .value import Note, Proposal, ProposedColumn


def propose(conn: Connection, table: str, source: str, models: str = "") -> Proposal:
    """The phase that fills a table from a source, both as a person names them; models are those of
    the application, "path/to/models.py:Base", or none.

    Raises RunbookError where one of the two is not there, cannot be read, or is the other one, and
    where the models cannot be loaded or compared.
    """
    on, other = meant(conn, table, "table"), meant(conn, source, "source")
    if on == other:
        raise RunbookError(
            f"table and source are both {on}: a phase fills a table from another one. Next step: "
            "correct one of the two; what is to be filled from its own columns needs a view of "
            "them as its source."
        )
    return guess(look(conn, on, other, models))


def guess(seen: Seen) -> Proposal:
    """The proposal for what was seen."""
    own, refers = key(seen.table), source_key(seen)
    known = [*own.columns, *refers.pairs, *(c for each in refers.choices for c in each)]
    filled = columns(seen, known)
    return Proposal(
        table=seen.table.table,
        source=seen.source.table,
        rows=seen.table.rows,
        source_rows=seen.source.rows,
        key=own,
        source_key=refers,
        columns=filled,
        indexes=indexes(seen, filled),
        notes=(*_notes(seen, filled), *passed_over(seen, known)),
    )


def _notes(seen: Seen, filled: Sequence[ProposedColumn]) -> Iterator[Note]:
    if not filled:
        yield Note(
            "todo",
            f"no column of {seen.table.table} is mostly NULL and looks like one of "
            f"{seen.source.table}. List those that are to be filled",
        )
    yield from _of_statistics(seen.table)
    yield from _of_models(seen)
    yield from left_out(seen, filled)
    if seen.children:
        yield Note("todo", f"other tables inherit from {seen.table.table}; a dry run refuses that")
    if seen.triggers:
        yield Note(
            "unknown",
            f"whether the {_triggers(seen.triggers)} may fire for every row; a dry run asks for "
            "those that would",
        )


def _triggers(names: Sequence[str]) -> str:
    return f"trigger{'' if len(names) == 1 else 's'} {', '.join(names)}"


def _of_statistics(of: SeenTable) -> Iterator[Note]:
    if any(c.nulls is not None for c in of.columns.values()):
        return
    if of.rows < 0:
        said = f"{of.table} was never analyzed, so which columns are empty; ANALYZE it, then repeat"
    elif not of.rows:
        said = f"{of.table} was empty when it was last analyzed, so which columns will be"
    else:
        said = f"{of.table} has no statistics that this role may see, so which columns are empty"
    yield Note("unknown", said)


def _of_models(seen: Seen) -> Iterator[Note]:
    if seen.expected is None:
        yield Note("unknown", "which names the application expects: no models were given")
        return
    for column in seen.expected.missing:
        said = f"column {column} of the models is not in {seen.table.table}; a phase adds none"
        yield Note("unknown", said)
