# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a phase makes no sense, beyond the bounds that each option declares."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .errors import RunbookError
from .options import require_bounds
from .spec import Column, Spec
from .window import require_sound_window

MAX_NAME_BYTES = 63
TO_DO = "TO DO"
"""What stands in a phase file where somebody has to write something."""


def require_sound(spec: Spec) -> None:
    """Raise RunbookError with the first value that makes no sense, naming the variable."""
    require_bounds(spec, variable)
    _require_done(spec)
    _require_phase_name(spec.phase)
    for column in spec.columns:
        _require_column(column)
    for name in _repeated([c.name for c in spec.columns]):
        raise RunbookError(f"phase_columns lists {name!r} twice. Next step: keep one of the two.")
    _require_filled(spec)
    _require_names(spec)
    _require_probe(spec)
    require_sound_window(spec)


def variable(option: str) -> str:
    """What an option of the phase is called in the variables file."""
    return "phase_name" if option == "phase" else f"phase_{option}"


def _require_phase_name(phase: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", phase):
        raise RunbookError(
            f"phase_name is {phase!r}; it names a folder, so it takes letters, digits, dots, "
            "hyphens and underscores. Next step: correct phase_name in the variables file."
        )


def _require_done(spec: Spec) -> None:
    left = [c.name for c in spec.columns if c.source.startswith(TO_DO)]
    if left:
        raise RunbookError(
            f"{TO_DO} is still what phase_columns has as source of {', '.join(map(repr, left))}. "
            "Next step: write the expression on the source that fills it, such as the name of a "
            "column; or take the column out."
        )


def _require_column(column: Column) -> None:
    share = column.coverage_min
    if share is not None and not 0 <= share <= 100:
        raise RunbookError(
            f"coverage_min of column {column.name!r} in phase_columns is {share}; it is a "
            "percentage from 0 to 100. Next step: correct it in the variables file."
        )
    if bool(column.converted_from) != bool(column.using):
        raise RunbookError(
            f"Column {column.name!r} in phase_columns has one of converted_from and using; a "
            "conversion needs both, the type that it is from and the expression that does it. "
            "Next step: add the other one, or take both out."
        )


def _require_filled(spec: Spec) -> None:
    if not spec.key and not spec.waive_rollback:
        raise RunbookError(
            "phase_key is empty, so a rollback could not tell the rows apart. Next step: name the "
            "columns of a unique index, or set phase_waive_rollback: true to go without rollback."
        )
    for name in ("columns", "source_key"):
        if not getattr(spec, name):
            raise RunbookError(
                f"phase_{name} is empty. Next step: fill it in the variables file; "
                "playbooks/vars/phase3.yml shows how."
            )


def _require_probe(spec: Spec) -> None:
    if spec.max_probe_ratio and not spec.probe_query:
        raise RunbookError(
            f"phase_max_probe_ratio is {spec.max_probe_ratio:g}, and there is no phase_probe_query "
            "that it would be of. Next step: name a query there, or set the ratio to 0."
        )


def _require_names(spec: Spec) -> None:
    for where, name in _names(spec):
        if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
            raise RunbookError(
                f"{where} has the name {name!r} of {len(name.encode())} bytes; PostgreSQL's names "
                f"have 1 to {MAX_NAME_BYTES}. Next step: correct {where} in the variables file."
            )


def _repeated(names: list[str]) -> list[str]:
    return [name for n, name in enumerate(names) if name in names[:n]]


def _names(spec: Spec) -> Iterator[tuple[str, str]]:
    """Every identifier of the phase, after the variable that it is from."""
    yield from [("phase_schema", spec.table.schema), ("phase_table", spec.table.name)]
    yield from [
        ("phase_source_schema", spec.source.schema),
        ("phase_source_table", spec.source.name),
    ]
    yield from (("phase_key", name) for name in spec.key)
    yield from (("phase_source_key", name) for pair in spec.source_key.items() for name in pair)
    for column in spec.columns:
        yield from (("phase_columns", n) for n in (column.name, column.renamed_from or column.name))
    for index in spec.indexes:
        old = index.renamed_from or index.name
        yield from (("phase_indexes", n) for n in (index.name, old, *index.columns))
        yield from (("phase_indexes", n) for n in index.include)
