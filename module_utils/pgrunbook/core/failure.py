# SPDX-License-Identifier: GPL-3.0-or-later
"""An error that nobody foresaw, of the database or of the program, in a sentence for the person."""

from __future__ import annotations

import traceback
from pathlib import Path

import psycopg

from .errors import detail, place, reason

_ANY_STEP = "mend the cause and run the playbook again; playbooks/status.yml tells what is kept."
_NEXT_STEPS = {
    "": "see that the server is up, then run the playbook again; it goes on where it stopped.",
    "42": "check names and privileges in the variables file and of the role, then run again.",
    "57": "see that the server is up and who cancelled the statement, then run again.",
    "53": "free the resource that the server lacks (disk, memory, connections), then run again.",
}


def database_failure(error: psycopg.Error) -> str:
    """An unforeseen database error in one line: what, where, SQLSTATE and the next step. It has no
    value of a row."""
    diag = error.diag
    where = ".".join(p for p in (diag.schema_name, diag.table_name, diag.column_name) if p)
    on = f" on {where}" if where else ""
    more = f" {detail(error)}" if detail(error) else ""
    context = f" ({place(error)})" if place(error) else ""
    return (
        f"PostgreSQL: {reason(error)}{on} "
        f"(SQLSTATE {error.sqlstate or 'none: the connection is gone'}).{more}{context} "
        f"Next step: {_NEXT_STEPS.get((error.sqlstate or '')[:2], _ANY_STEP)}"
    )


def unforeseen(error: Exception, *, writes: bool) -> str:
    """What a person can do about a mistake of the program, which may have changed the database
    where it writes. The error's own text may have values."""
    frames = traceback.extract_tb(error.__traceback__)
    last = ([frame for frame in frames if _PROGRAM in frame.filename] or frames)[-1]
    state = (
        "What the ledger has is kept; playbooks/status.yml tells how far the run is."
        if writes
        else "Nothing was changed in the database."
    )
    return (
        f"A mistake in pgrunbook: {type(error).__name__} in {_in_the_program(last.filename)}, line "
        f"{last.lineno}. {state} Next step: run the same again with -vvv, and give what it shows "
        "to whoever maintains pgrunbook."
    )


def _in_the_program(filename: str) -> str:
    """A file's path below the program's folder, or its name where it is elsewhere."""
    _, program, below = filename.rpartition(_PROGRAM)
    return below if program else Path(filename).name


_PROGRAM = "/module_utils/pgrunbook/"


def trace(error: BaseException) -> list[str]:
    """The traceback without the text of database errors, which may have a row."""
    said = type(error).__name__ if isinstance(error, psycopg.Error) else repr(error)
    lines = "".join(traceback.format_tb(error.__traceback__)).splitlines()
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [*([*trace(cause), "which led to:"] if cause else []), *lines, said]
