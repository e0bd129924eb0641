# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase's specification: what the variables file says, checked once and then only read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from .errors import RunbookError

MOST_NAME_BYTES = 63
MOST_WORKERS = 16
THRESHOLDS = (
    "most_replay_lag_seconds",
    "most_lock_waiters",
    "most_active_sessions",
    "most_unarchived_wal_mb",
    "most_wal_mb_per_second",
)
GATES = (
    "connectivity",
    "superuser",
    "orphans",
    "schema",
    "indexes",
    "baseline",
    "requirement",
    "estimate",
    "coverage",
    "remaining",
    "dry_run",
    "canary",
    "accuracy",
    "comparison",
    "journal",
    "read_only",
)
"""The ids of the gates that phase_gates may name; docs/report.md says what each is. Each query has
an enforce of its own."""
ENFORCE, WARN = "enforce", "warn"
METHODS = ("btree", "hash", "gist", "spgist", "gin", "brin")
APART, EQUAL, DIFFER = KEPT_VALUES = ("apart", "equal", "differ")
"""What becomes of a value that a conversion kept and that differs from its source."""

SPEC_OPTIONS: dict[str, Any] = {
    "phase": {"type": "str", "required": True},
    "title": {"type": "str", "default": ""},
    "schema": {"type": "str", "default": "public"},
    "table": {"type": "str", "required": True},
    "key": {"type": "list", "elements": "str", "required": True, "no_log": False},
    "columns": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "required": True},
            "renamed_from": {"type": "str"},
            "converted_from": {"type": "str"},
            "using": {"type": "str"},
            "source": {"type": "str", "required": True},
            "coverage_min": {"type": "float"},
        },
    },
    "source_schema": {"type": "str", "default": "public"},
    "source_table": {"type": "str", "required": True},
    "source_key": {"type": "dict", "required": True, "no_log": False},
    "indexes": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "columns": {"type": "list", "elements": "str", "required": True},
            "include": {"type": "list", "elements": "str", "default": []},
            "where": {"type": "str"},
            "method": {"type": "str", "default": "btree", "choices": list(METHODS)},
            "renamed_from": {"type": "str"},
        },
    },
    "acknowledged": {"type": "list", "elements": "str", "default": []},
    "acknowledged_drift": {"type": "list", "elements": "str", "default": []},
    "trusted_roles": {"type": "list", "elements": "str", "default": []},
    "superuser": {"type": "str", "default": "warn", "choices": ["refuse", "warn"]},
    "strategy": {
        "type": "str",
        "default": "auto",
        "choices": ["auto", "interleaved", "ranges", "keyset"],
    },
    "workers": {"type": "int", "default": 1},
    "batch_rows": {"type": "int", "default": 5000},
    "batch_target_ms": {"type": "int", "default": 100},
    "canary_rows": {"type": "int", "default": 10000},
    "slice_seconds": {"type": "int", "default": 5},
    "lock_timeout_ms": {"type": "int", "default": 500},
    "lock_tries": {"type": "int", "default": 10},
    "window_end": {"type": "str", "default": ""},
    "waive_rollback": {"type": "bool", "default": False},
    "unfillable_max": {"type": "int", "default": 0},
    "most_replay_lag_seconds": {"type": "float", "default": 10.0},
    "most_lock_waiters": {"type": "int", "default": 0},
    "most_active_sessions": {"type": "int", "default": 16},
    "most_unarchived_wal_mb": {"type": "int", "default": 1024},
    "most_wal_mb_per_second": {"type": "int", "default": 200},
    "gates": {"type": "dict", "default": {}},
    "coverage_min": {"type": "float", "default": 95.0},
    "accuracy_min": {"type": "float", "default": 99.0},
    "kept_values": {"type": "str", "default": "apart", "choices": list(KEPT_VALUES)},
    "sample_rows": {"type": "int", "default": 1000},
    "sample_seed": {"type": "int", "default": 7},
    "speedup_min": {"type": "float", "default": 5.0},
    "repetitions": {"type": "int", "default": 11},
    "proposed_indexes": {
        "type": "str",
        "default": "estimate",
        "choices": ["estimate", "try", "keep"],
    },
    "queries": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "snapshot": {"type": "str", "required": True},
            "baseline": {"type": "str", "required": True},
            "enforce": {"type": "bool", "default": True},
        },
    },
}


@dataclass(frozen=True)
class Table:
    """A table by schema and name, both as PostgreSQL stores them (unquoted)."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Column:
    """A column that the phase needs: its SQL type and the source expression that fills it.

    converted_from is another type that it may still have, in format_type()'s spelling, and using
    the expression that turns a value of that type into one of the right type. coverage_min is its
    own share of rows with a value, in per cent; None where that of the phase holds.
    """

    name: str
    type: str
    renamed_from: str | None
    source: str
    converted_from: str | None = None
    using: str | None = None
    coverage_min: float | None = None


@dataclass(frozen=True)
class Index:
    """An index that the phase needs: on columns, each with its usual order and operator class.
    include has columns that it only holds; where is the condition on the rows that are in it, on
    columns under their right names, and empty for all rows."""

    name: str
    columns: tuple[str, ...]
    renamed_from: str | None
    include: tuple[str, ...] = ()
    where: str = ""
    method: str = "btree"


@dataclass(frozen=True)
class Query:
    """A query on the filled columns and the one that it replaces; both must agree."""

    name: str
    snapshot: str
    baseline: str
    enforce: bool


@dataclass(frozen=True)
class Spec:
    """A whole phase. Percentages are 0–100, times are in the unit that the name says."""

    phase: str
    title: str
    table: Table
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    source: Table
    source_key: dict[str, str]
    indexes: tuple[Index, ...]
    acknowledged: tuple[str, ...]
    acknowledged_drift: tuple[str, ...]
    trusted_roles: tuple[str, ...]
    superuser: str
    strategy: str
    workers: int
    batch_rows: int
    batch_target_ms: int
    canary_rows: int
    slice_seconds: int
    lock_timeout_ms: int
    lock_tries: int
    window_end: str
    waive_rollback: bool
    unfillable_max: int
    most_replay_lag_seconds: float
    most_lock_waiters: int
    most_active_sessions: int
    most_unarchived_wal_mb: int
    most_wal_mb_per_second: int
    gates: dict[str, str]
    coverage_min: float
    accuracy_min: float
    kept_values: str
    sample_rows: int
    sample_seed: int
    speedup_min: float
    repetitions: int
    proposed_indexes: str
    queries: tuple[Query, ...]

    def coverage_of(self, column: str) -> float:
        """The share of rows that must have a value in a column of the phase, in per cent."""
        own = {c.name: c.coverage_min for c in self.columns}[column]
        return self.coverage_min if own is None else own

    def as_dict(self) -> dict[str, Any]:
        """The options that parse() takes, as the plan's hash and the ledger hold them."""
        fields = asdict(self)
        table, source = fields.pop("table"), fields.pop("source")
        return {
            **fields,
            "schema": table["schema"],
            "table": table["name"],
            "source_schema": source["schema"],
            "source_table": source["name"],
        }


def parse(options: Mapping[str, Any]) -> Spec:
    """Turn the options of SPEC_OPTIONS into a Spec. One that is absent has its default. It does not
    depend on the order of a mapping, which the ledger does not keep.

    Raises RunbookError where a value makes no sense, naming the variable.
    """
    defaults = {name: o["default"] for name, o in SPEC_OPTIONS.items() if "default" in o}
    given = {**defaults, **options}
    scalars = [
        "phase",
        "title",
        "superuser",
        "strategy",
        "workers",
        "batch_rows",
        "batch_target_ms",
        "canary_rows",
        "slice_seconds",
        "lock_timeout_ms",
        "lock_tries",
        "window_end",
        "waive_rollback",
        "unfillable_max",
        "most_replay_lag_seconds",
        "most_lock_waiters",
        "most_active_sessions",
        "most_unarchived_wal_mb",
        "most_wal_mb_per_second",
        "coverage_min",
        "accuracy_min",
        "kept_values",
        "sample_rows",
        "sample_seed",
        "speedup_min",
        "repetitions",
        "proposed_indexes",
    ]
    spec = Spec(
        table=Table(given["schema"], given["table"]),
        source=Table(given["source_schema"], given["source_table"]),
        key=tuple(given["key"]),
        columns=tuple(_column(c) for c in given["columns"]),
        source_key=dict(sorted((str(k), str(v)) for k, v in given["source_key"].items())),
        indexes=tuple(_index(i) for i in given["indexes"]),
        acknowledged=tuple(given["acknowledged"]),
        acknowledged_drift=tuple(given["acknowledged_drift"]),
        trusted_roles=tuple(given["trusted_roles"]),
        gates={str(gate): str(word) for gate, word in given["gates"].items()},
        queries=tuple(
            Query(q["name"], q["snapshot"], q["baseline"], q.get("enforce", True))
            for q in given["queries"]
        ),
        **{name: given[name] for name in scalars},
    )
    _check(spec)
    return spec


def parse_stored(options: Mapping[str, Any]) -> Spec:
    """The Spec that this program or an earlier one stored. What the earlier one did not know has
    its default, which is what it did.

    Raises RunbookError where it has an option that this program does not know.
    """
    unknown = _unknown(options, SPEC_OPTIONS)
    if unknown:
        raise RunbookError(
            f"The phase in the ledger has {', '.join(unknown)}, which this pgrunbook does not "
            "know: a newer one wrote it. Nothing was changed. Next step: use the newer pgrunbook."
        )
    return parse(options)


def _unknown(given: Mapping[str, Any], options: Mapping[str, Any]) -> list[str]:
    """The names in given, and in the mappings that it lists, that are no options."""
    nested = [
        f"{name}.{inner}"
        for name, option in options.items()
        if "options" in option
        for each in given.get(name) or []
        for inner in _unknown(each, option["options"])
    ]
    return sorted({name for name in given if name not in options} | set(nested))


def seconds_left(spec: Spec) -> float | None:
    """Seconds until the maintenance window ends, negative afterwards; None where it has no end."""
    if not spec.window_end:
        return None
    return (_window_end(spec.window_end) - datetime.now(UTC)).total_seconds()


def window_closed(spec: Spec) -> bool:
    """Whether the maintenance window has an end and that end has passed."""
    left = seconds_left(spec)
    return left is not None and left <= 0


def require_open_window(spec: Spec) -> None:
    """Raise RunbookError when the maintenance window is over."""
    if window_closed(spec):
        raise RunbookError(
            f"The maintenance window ended at {spec.window_end}. Nothing was changed. "
            "Next step: set phase_window_end to the end of the next window."
        )


def _column(option: Mapping[str, Any]) -> Column:
    return Column(
        option["name"],
        option["type"],
        option.get("renamed_from") or None,
        option["source"],
        option.get("converted_from") or None,
        option.get("using") or None,
        option.get("coverage_min"),
    )


def _index(option: Mapping[str, Any]) -> Index:
    return Index(
        option["name"],
        tuple(option["columns"]),
        option.get("renamed_from") or None,
        tuple(option.get("include") or ()),
        option.get("where") or "",
        option.get("method") or "btree",
    )


def _window_end(text: str) -> datetime:
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise RunbookError(
            f"phase_window_end is {text!r}, which is no ISO 8601 time. "
            "Next step: write it as 2026-01-31T04:00:00+00:00."
        ) from None
    if end.tzinfo is None:
        raise RunbookError(
            f"phase_window_end is {text!r}, without a time zone. "
            f"Next step: write {text}+00:00, or the offset that you mean."
        )
    return end


def _check(spec: Spec) -> None:
    positive = [
        "workers",
        "batch_rows",
        "batch_target_ms",
        "canary_rows",
        "slice_seconds",
        "lock_timeout_ms",
        "lock_tries",
        "sample_rows",
        "repetitions",
    ]
    for name in positive:
        value = getattr(spec, name)
        if value < 1:
            raise RunbookError(
                f"phase_{name} is {value}; it must be at least 1. "
                f"Next step: correct phase_{name} in the variables file."
            )
    for name, value in asdict(spec).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RunbookError(
                f"phase_{name} is {value}; it must be a number. "
                f"Next step: correct phase_{name} in the variables file."
            )
    for name in (*THRESHOLDS, "unfillable_max"):
        if getattr(spec, name) < 0:
            raise RunbookError(
                f"phase_{name} is {getattr(spec, name)}; it must be 0 or more. "
                f"Next step: correct phase_{name} in the variables file."
            )
    for name in ("coverage_min", "accuracy_min"):
        if not 0 <= getattr(spec, name) <= 100:
            raise RunbookError(
                f"phase_{name} is {getattr(spec, name)}; it is a percentage from 0 to 100. "
                f"Next step: correct phase_{name} in the variables file."
            )
    for column in spec.columns:
        if not 0 <= spec.coverage_of(column.name) <= 100:
            raise RunbookError(
                f"coverage_min of column {column.name!r} in phase_columns is "
                f"{column.coverage_min}; it is a percentage from 0 to 100. Next step: correct it "
                "in the variables file."
            )
    if spec.kept_values not in KEPT_VALUES:
        raise RunbookError(
            f"phase_kept_values is {spec.kept_values!r}; it takes {', '.join(KEPT_VALUES)}. "
            "Next step: correct phase_kept_values in the variables file."
        )
    if spec.speedup_min <= 0:
        raise RunbookError(
            f"phase_speedup_min is {spec.speedup_min}; it must be more than 0. "
            "Next step: correct phase_speedup_min in the variables file."
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", spec.phase):
        raise RunbookError(
            f"phase_name is {spec.phase!r}; it names a folder, so it takes letters, digits, dots, "
            "hyphens and underscores. Next step: correct phase_name in the variables file."
        )
    for column in spec.columns:
        if bool(column.converted_from) != bool(column.using):
            raise RunbookError(
                f"Column {column.name!r} in phase_columns has one of converted_from and using; a "
                "conversion needs both, the type that it is from and the expression that does it. "
                "Next step: add the other one, or take both out."
            )
    for name in _repeated([c.name for c in spec.columns]):
        raise RunbookError(f"phase_columns lists {name!r} twice. Next step: keep one of the two.")
    if spec.workers > MOST_WORKERS:
        raise RunbookError(
            f"phase_workers is {spec.workers}; more than {MOST_WORKERS} would only wait for each "
            "other. Next step: correct phase_workers in the variables file."
        )
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
    _check_gates(spec.gates)
    for where, name in _names(spec):
        if not 1 <= len(name.encode()) <= MOST_NAME_BYTES:
            raise RunbookError(
                f"{where} has the name {name!r} of {len(name.encode())} bytes; PostgreSQL's names "
                f"have 1 to {MOST_NAME_BYTES}. Next step: correct {where} in the variables file."
            )
    if spec.window_end:
        _window_end(spec.window_end)


def _check_gates(gates: Mapping[str, str]) -> None:
    for gate, word in gates.items():
        if gate.startswith(("query:", "speedup:")):
            raise RunbookError(
                f"phase_gates names {gate!r}, but each query has a setting of its own. "
                "Next step: take it out, and set enforce of that query in phase_queries."
            )
        if gate not in GATES:
            raise RunbookError(
                f"phase_gates names {gate!r}, which is no gate of a phase; these are: "
                f"{', '.join(GATES)}. Next step: correct the name in the variables file."
            )
        if word not in (ENFORCE, WARN):
            raise RunbookError(
                f"phase_gates sets {gate} to {word!r}; it takes {ENFORCE} or {WARN}. "
                "Next step: correct phase_gates in the variables file."
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
