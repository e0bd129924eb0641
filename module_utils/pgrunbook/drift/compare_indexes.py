# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs in the indexes of a table.

Columns of the database that are only renamed count under their names in the models: the rename is
told once, and not again for every index on them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .. import catalog
from ..catalog import IndexInfo, conversion
from ..core.connection import Connection
from ..core.spec import Index, Spec
from . import index_kinds, model_index
from .compared import Compared
from .difference import Difference
from .resolution import Subject

if TYPE_CHECKING:
    from sqlalchemy import Index as ModelIndex


def index_differences(
    conn: Connection, spec: Spec, both: Compared, told: Collection[str]
) -> Iterator[Difference]:
    """What differs in the indexes of a table. told has the indexes that another difference is
    already about, by name."""
    indexes = paired(spec, both, told)
    phase = {i.name: i for i in spec.indexes} if both.table == spec.table else {}
    yield from _invalid(both, indexes, phase)
    yield from _invalid_in_partitions(conn, both)
    yield from _renamed(both, indexes, phase)
    yield from _changed(both, indexes)
    yield from _missing(both, indexes, phase)
    yield from _surplus(both, indexes, phase)


@dataclass(frozen=True)
class Paired:
    """The models' indexes by their names, and what is to be told of each name: it is INVALID in the
    database; it is on both sides, as {name in the database: name in the models}; it has another
    definition on each side; or only one side has it."""

    models: dict[str, ModelIndex]
    invalid: list[str]
    same: dict[str, str]
    changed: list[str]
    missing: list[str]
    surplus: list[str]


def paired(spec: Spec, both: Compared, told: Collection[str]) -> Paired:
    """The indexes of both sides by what is to be told of them. told has those that another
    difference is already about."""
    found = both.info.indexes
    models = {str(index.name): index for index in both.model.indexes}
    invalid = [n for n, index in found.items() if not index.valid]
    surplus = [n for n in both.changes.surplus_indexes if n not in told and n not in invalid]
    missing = [n for n in both.changes.missing_indexes if n not in told]
    unseen = [n for n in models if n in found and n not in missing and n not in invalid]
    changed = [n for n in missing if n in surplus] + [
        n for n in unseen if not model_index.may_be_same(found[n], models[n], both.aliases)
    ]
    aside = _set_aside(spec, both)
    same = _same(both, models, missing, [n for n in surplus if n not in aside])
    changed = [n for n in changed if n not in same]
    return Paired(
        models,
        invalid,
        same,
        changed,
        [n for n in missing if n not in {*changed, *invalid, *same.values()}],
        [n for n in surplus if n not in {*changed, *aside, *same}],
    )


def _set_aside(spec: Spec, both: Compared) -> set[str]:
    """The indexes on a column that the phase puts aside. They stay on that column, whatever indexes
    the models have on the new one."""
    if both.table != spec.table:
        return set()
    old = {each.old for each in conversion.pending(spec, both.info)}
    return {n for n, index in both.info.indexes.items() if old & set(index.columns)}


def _same(
    both: Compared, models: Mapping[str, ModelIndex], missing: list[str], surplus: list[str]
) -> dict[str, str]:
    """Which surplus index is which missing one, as {surplus: missing}: they have the same
    definition, with the columns under either of their names. Pairs of one name come first."""
    same: dict[str, str] = {}
    pairs = [(old, new) for new in missing for old in surplus]
    for old, new in sorted(pairs, key=lambda pair: (pair[0] != pair[1], pair)):
        if old in same or new in same.values():
            continue
        if model_index.is_same(both.info.indexes[old], models[new], both.aliases):
            same[old] = new
    return same


def _invalid(both: Compared, indexes: Paired, phase: Mapping[str, Index]) -> Iterator[Difference]:
    for index in indexes.invalid:
        yield index_kinds.invalid_index(
            both.subject,
            index,
            modelled=index in indexes.models,
            by_phase=_made_by(phase, index),
        )


def _invalid_in_partitions(conn: Connection, both: Compared) -> Iterator[Difference]:
    """INVALID indexes of single partitions. SQLAlchemy looks at the table as a whole only."""
    if not both.info.partitioned:
        return
    for leaf in both.info.leaves:
        on = replace(both.subject, table=leaf.table, partitioned=False)
        info = catalog.inspect(conn, leaf.table, catalog.READABLE)
        for index, found in info.indexes.items():
            if not found.valid:
                yield index_kinds.invalid_index(on, index, modelled=False, by_phase=False)


def _renamed(both: Compared, indexes: Paired, phase: Mapping[str, Index]) -> Iterator[Difference]:
    for old, new in indexes.same.items():
        if old != new:
            declared = new in phase and phase[new].renamed_from == old
            yield index_kinds.renamed_index(both.subject, new, old, by_phase=declared)


def _changed(both: Compared, indexes: Paired) -> Iterator[Difference]:
    for index in indexes.changed:
        yield _changed_index(both.subject, indexes.models[index], both.info.indexes[index])


def _changed_index(on: Subject, model: ModelIndex, found: IndexInfo) -> Difference:
    expected = f"{'UNIQUE ' if model.unique else ''}{model_index.definition(model)}"
    return index_kinds.changed_index(
        on,
        str(model.name),
        found.definition,
        expected,
        model_index.creation(on.table, model),
        unique=bool(model.unique) and not found.unique,
    )


def _missing(both: Compared, indexes: Paired, phase: Mapping[str, Index]) -> Iterator[Difference]:
    for index in indexes.missing:
        model = indexes.models[index]
        yield index_kinds.missing_index(
            both.subject,
            index,
            model_index.definition(model),
            model_index.creation(both.table, model),
            by_phase=index in phase and model_index.is_built_by(phase[index], model),
            unique=model.unique,
        )


def _surplus(both: Compared, indexes: Paired, phase: Mapping[str, Index]) -> Iterator[Difference]:
    for index in indexes.surplus:
        yield index_kinds.surplus_index(
            both.subject,
            index,
            both.info.indexes[index].definition,
            by_phase=_made_by(phase, index),
        )


def _made_by(phase: Mapping[str, Index], index: str) -> bool:
    return index in phase or index in {i.renamed_from for i in phase.values()}
