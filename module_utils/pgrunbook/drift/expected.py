# SPDX-License-Identifier: GPL-3.0-or-later
"""What the models expect of a phase's table, as plain values, before there is a phase: its columns,
those that are probably only renamed, and its indexes."""

from __future__ import annotations

from dataclasses import dataclass

from .. import catalog
from ..core.connection import Connection
from ..core.spec import Spec
from . import model_index
from .alembic_changes import compare_tables, with_schemas
from .compare_indexes import paired
from .compared import Compared, side_by_side
from .models import comparing, load_metadata
from .renames import nearness
from .resolution import Subject


@dataclass(frozen=True)
class Renamed:
    """A column of the database that is probably one of the models under another name. likeness is
    how alike the two are, from 0 to 1."""

    old: str
    new: str
    likeness: float


@dataclass(frozen=True)
class ExpectedIndex:
    """An index of the models. now is what the table calls it, empty where it lacks it. buildable:
    an index of a phase can be the same; else definition says what it is."""

    name: str
    columns: tuple[str, ...]
    include: tuple[str, ...]
    method: str
    now: str
    buildable: bool
    definition: str


@dataclass(frozen=True)
class Expected:
    """types are those of the models' columns, in format_type()'s spelling; one that this server
    does not find is left out. missing are the columns that the table lacks."""

    columns: tuple[str, ...]
    types: dict[str, str]
    renamed: tuple[Renamed, ...]
    missing: tuple[str, ...]
    indexes: tuple[ExpectedIndex, ...]


def expected(conn: Connection, spec: Spec, models: str) -> Expected | None:
    """What the models expect of the phase's table; None where they have no such table.

    Raises RunbookError where the models cannot be loaded or compared.
    """
    metadata = load_metadata(models)
    on = spec.table
    with comparing(models):
        metadata = with_schemas(conn, spec, metadata)
        model = metadata.tables.get(f"{on.schema}.{on.name}")
        if model is None:
            return None
        info = catalog.inspect(conn, on)
        changes = compare_tables(conn, metadata, [on])[on]
        both = side_by_side(conn, spec, Subject(on, spec.lock_timeout_ms), model, info, changes)
    return Expected(
        tuple(c.name for c in model.columns),
        {name: type_.spelling for name, type_ in both.types.items() if type_.oid},
        tuple(Renamed(old, new, nearness(new, old)) for old, new in both.aliases.items()),
        tuple(c for c in changes.missing if c not in both.aliases.values()),
        _indexes(spec, both),
    )


def _indexes(spec: Spec, both: Compared) -> tuple[ExpectedIndex, ...]:
    """The models' indexes that are whole, or that the table lacks; one of the same name and another
    definition is left to the drift check."""
    found = paired(spec, both, ())
    now = {new: old for old, new in found.same.items()}
    there = {n: n for n in both.info.indexes if n not in {*found.changed, *found.invalid}}
    return tuple(
        ExpectedIndex(
            name,
            model_index.column_names(model),
            model_index.include(model),
            model_index.method(model),
            "" if name in found.missing else now.get(name, there.get(name, "")),
            model_index.is_buildable(model),
            model_index.definition(model),
        )
        for name, model in sorted(found.models.items())
        if name not in {*found.changed, *found.invalid}
    )
