# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase's specification: what the variables file says, checked once and then only read.

Each option is one field here. Its name, type, default, bounds and documentation are what Ansible
takes, what is checked, and what docs/variables.md and the modules' documentation say, once
`make generate` has run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .options import Table, argument_spec, given_by, option

__all__ = [
    "APART",
    "DIFFER",
    "EQUAL",
    "KEPT_VALUES",
    "MAX_WORKERS",
    "METHODS",
    "SPEC_OPTIONS",
    "STEERING",
    "THRESHOLDS",
    "Column",
    "Index",
    "Query",
    "Spec",
    "Table",
]

MAX_WORKERS = 16
METHODS = ("btree", "hash", "gist", "spgist", "gin", "brin")
APART, EQUAL, DIFFER = KEPT_VALUES = ("apart", "equal", "differ")
"""What becomes of a value that a conversion kept and that differs from its source."""


@dataclass(frozen=True)
class Column:
    """A column that the phase needs, and where its values come from."""

    name: str = option("The column's right name.")
    type: str = option(
        "The column's right SQL type. Any other type stops the run, apart from "
        "O(ignore:converted_from).",
    )
    source: str = option(
        "SQL expression on the columns of the source table, such as V(ip_types[1]) or "
        "V(enrichment->>'type'). It is tried in a READ ONLY transaction first.",
    )
    renamed_from: str | None = option("The wrong name that the column may still bear.", None)
    converted_from: str | None = option(
        "Another type that the column may still have, as psql's C(\\d) shows it. The column "
        "is then put aside, a new one takes its place, and the backfill moves its values.",
        None,
    )
    using: str | None = option(
        "SQL expression that turns a value of that type into one of the right type, such as "
        "V({snapshot_ip_type}[1]), with the column's right name in braces. It goes with "
        "O(ignore:converted_from).",
        None,
    )
    coverage_min: float | None = option(
        "Per cent of all rows that must have a value in this column afterwards, in place of "
        "O(ignore:coverage_min) of the phase.",
        None,
    )


@dataclass(frozen=True)
class Index:
    """An index that the phase needs: on columns, each with its usual order and operator class."""

    name: str = option("The index's right name.")
    columns: tuple[str, ...] = option("Its columns in order, under their right names.")
    renamed_from: str | None = option(
        "The name that an index of the same definition may still bear.",
        None,
    )
    include: tuple[str, ...] = option(
        "Columns that it only holds (INCLUDE), so that a query which reads no others needs "
        "the index alone.",
        (),
    )
    where: str = option(
        "The condition on the rows that are in it, an SQL expression on columns under their "
        "right names. It may call nothing whose value changes. Empty means all rows.",
        "",
    )
    method: str = option(
        "The kind of index. Each column has its type's usual operator class.",
        "btree",
        choices=METHODS,
    )


@dataclass(frozen=True)
class Query:
    """A query on the filled columns and the one that it replaces; both must agree."""

    name: str = option("What the query answers.")
    snapshot: str = option(
        "The query on the filled columns. V({table}), V({source}) and the phase's columns in "
        "braces are replaced by quoted names; any other brace must be doubled.",
    )
    baseline: str = option("The query that it replaces, with the same placeholders.")
    enforce: bool = option(
        "Whether a miss makes the verdict NO-GO. Otherwise it is a warning.",
        True,
    )


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A whole phase. Percentages are 0–100, times are in the unit that the name says."""

    phase: str = option(
        "Short name of the phase: letters, digits, dots, hyphens and underscores. Run ids and "
        "report folders begin with it.",
    )
    title: str = option("What people call the phase, if not by its name.", "")
    table: Table = option("The table to be changed: an ordinary table, or a partitioned one.")
    key: tuple[str, ...] = option(
        "Columns of a unique index, NOT NULL, that tells the table's rows apart. It may be "
        "empty with O(spec.waive_rollback).",
    )
    columns: tuple[Column, ...] = option("The columns that the phase needs and fills.")
    source: Table = option(
        "The table or view that the values come from, with one row for each key.",
    )
    source_key: dict[str, str] = option(
        "Which column of the table refers to which column of the source.",
    )
    indexes: tuple[Index, ...] = option(
        "Indexes that the phase needs on the table. Those of a partitioned table are built on "
        "each partition.",
        (),
        more="variables.md#an-index",
    )
    acknowledged: tuple[str, ...] = option(
        "What may happen although it would stop the run, as the message that asks for it "
        "spells it: functions whose body has an old column name, triggers that fire for every "
        "row, volatile functions, values that are moved to a column of another type.",
        (),
        more="variables.md#what-is-acknowledged",
    )
    acknowledged_drift: tuple[str, ...] = option(
        "Differences from the models that may be, by the RV(ignore:object) that "
        "M(pgrunbook_drift) returns of each.",
        (),
        more="report.md#schema-drift",
    )
    trusted_roles: tuple[str, ...] = option(
        "Roles whose code may run as the login role, because they may create functions and "
        "operators in the schemas of the two tables, or own what the phase reads. The owners "
        "of these schemas and of the phase's table, and superusers, are trusted without being "
        "named.",
        (),
        more="security.md#against-other-roles-of-the-database",
    )
    superuser: str = option(
        "What to do where the login role is a superuser. V(refuse) stops in the preflight, "
        "V(warn) shows it.",
        "warn",
        choices=("refuse", "warn"),
    )
    strategy: str = option(
        "The way through the table. V(interleaved) makes most updates heap-only, without the "
        "indexes on the filled columns, which are built again afterwards. V(ranges) goes from "
        "page to page, V(keyset) in the order of the key. V(auto) chooses, and says why.",
        "auto",
        choices=("auto", "interleaved", "ranges", "keyset"),
        more="variables.md#strategies",
    )
    workers: int = option(
        "In how many threads the backfill, and a rollback, works. Each has a connection of "
        "its own; one more watches.",
        1,
        least=1,
        most=MAX_WORKERS,
        why_most=f"more than {MAX_WORKERS} would only wait for each other",
    )
    batch_rows: int = option(
        "The most rows that a batch, which is one transaction, changes. Where values are "
        "large there are fewer: those of a batch are about 16 MB together.",
        5000,
        least=1,
    )
    batch_target_ms: int = option(
        "How long a batch should take. Its size adapts to that.",
        20,
        least=1,
        unit="milliseconds",
    )
    canary_rows: int = option(
        "How many rows are filled and compared before the second approval.",
        10000,
        least=1,
    )
    slice_seconds: int = option(
        "For how long the backfill works between two lines of progress.",
        5,
        least=1,
        unit="seconds",
    )
    lock_timeout_ms: int = option(
        "How long a statement waits for a lock. Index builds have 30 minutes.",
        500,
        least=1,
        unit="milliseconds",
    )
    lock_tries: int = option(
        "How often a statement is tried before a lock that is not to be had is an error. The "
        "pause between two tries doubles, from 1 s to 60 s, with jitter.",
        10,
        least=1,
    )
    window_start: str = option(
        "Start of the maintenance window, ISO 8601 with offset. A dry run and a plan may be made "
        "before it, and nothing is written. Empty means that it is open.",
        "",
    )
    window_end: str = option(
        "End of the maintenance window, ISO 8601 with offset, such as "
        "V(2026-01-31T04:00:00+00:00). Empty means no end.",
        "",
    )
    waive_rollback: bool = option(
        "Keep nothing that a rollback needs, so that what is filled cannot be taken back. A "
        "table without a unique index needs it.",
        False,
        more="rollback.md#when-it-is-no-longer-valid",
    )
    unfillable_max: int = option(
        "How many rows may be set aside because the server refuses what they would get, such "
        "as a value that a CHECK constraint forbids. With more of them nothing is begun, or "
        "the run stops.",
        0,
        least=0,
        more="variables.md#rows-that-the-server-refuses",
    )
    max_replay_lag_seconds: float = option(
        "Replay lag of the slowest standby above which the backfill is throttled.",
        10.0,
        least=0,
        unit="seconds",
    )
    max_lock_waiters: int = option(
        "Sessions waiting for locks of the backfill above which it is throttled.",
        0,
        least=0,
    )
    max_active_sessions: int = option(
        "Active client sessions more than when the run began above which it is throttled.",
        16,
        least=0,
    )
    max_unarchived_wal_mb: int = option(
        "WAL that is not archived yet above which the backfill is throttled. 1 MB is "
        "1,000,000 bytes.",
        1024,
        least=0,
        unit="megabytes",
    )
    max_wal_mb_per_second: int = option(
        "WAL that the whole server writes above which the backfill is throttled.",
        200,
        least=0,
        unit="megabytes a second",
    )
    max_commit_ms: float = option(
        "How long a small commit may take while batches run: above that they get shorter, and "
        "then workers rest between them. 0 is off.",
        0.0,
        least=0,
        unit="milliseconds",
        more="runbook.md#be-gentle",
    )
    max_probe_ratio: float = option(
        "How many times as long as before the run O(spec.probe_query) may take, with the same "
        "effect. 0 is off.",
        0.0,
        least=0,
        more="runbook.md#be-gentle",
    )
    probe_query: str = option(
        "A query that the application does often, which is timed about ten times a second while "
        "batches run. V({table}), V({source}) and the phase's columns in braces are replaced by "
        "quoted names. It may only read. Empty times none.",
        "",
        more="runbook.md#be-gentle",
    )
    gates: dict[str, str] = option(
        "Whether a gate that is missed makes the verdict NO-GO (V(enforce)) or is a warning "
        "(V(warn)), by the gate's id. One that is not named keeps its default. Each query has "
        "an RV(ignore:enforce) of its own.",
        {},
        more="variables.md#gates",
    )
    coverage_min: float = option(
        "Per cent of all rows that must have a value afterwards, in each column that has no "
        "RV(ignore:coverage_min) of its own.",
        95.0,
        per_cent=True,
    )
    accuracy_min: float = option(
        "Per cent of the compared rows that must equal their source.",
        99.0,
        per_cent=True,
    )
    kept_values: str = option(
        "How a value counts that was kept from a column of another type and differs from the "
        "source. V(apart) leaves its row out of the comparison and tells how many there are, "
        "V(equal) counts it as equal, V(differ) as different.",
        APART,
        choices=KEPT_VALUES,
        more="variables.md#a-column-of-the-wrong-type",
    )
    sample_rows: int = option("Size of the random sample.", 1000, least=1)
    sample_seed: int = option("Seed of the random sample. The same seed gives the same rows.", 7)
    counts: str = option(
        "How a plan counts the rows of a large table. V(exact) reads all of them, V(estimate) some "
        "pages, unless what is estimated leaves a decision open; V(auto) estimates in a dry run "
        "only.",
        "auto",
        choices=("auto", "exact", "estimate"),
        more="variables.md#counts-of-a-large-table",
    )
    speedup_min: float = option(
        "How many times better a query must be than the one that it replaces.",
        5.0,
        above=0,
        more="report.md#query-performance",
    )
    repetitions: int = option(
        "How often each query is timed, but 6 times at least; up to ten times as often where "
        "it is too close to call. The median counts.",
        11,
        least=1,
        more="report.md#query-performance",
    )
    index_advice: str = option(
        "What to do with the index that would serve a query that misses its speed-up. "
        "V(estimate) tells its size and build time, V(try) builds it, measures the query "
        "again and drops it, V(keep) keeps it if the query then meets its speed-up.",
        "estimate",
        choices=("estimate", "try", "keep"),
        more="report.md#an-index-that-would-serve-a-query",
    )
    signatures_min: int = option(
        "How many people have to sign the plan of a run with their SSH keys before it begins.",
        0,
        least=0,
        more="approval.md",
    )
    operator_may_sign: bool = option(
        "Whether the signature of who runs the playbook counts too.",
        False,
        more="approval.md#who-counts",
    )
    queries: tuple[Query, ...] = option(
        "Pairs of queries that must give equal results. It may be empty.",
        (),
    )

    def coverage_of(self, column: str) -> float:
        """The share of rows that must have a value in a column of the phase, in per cent."""
        own = {c.name: c.coverage_min for c in self.columns}[column]
        return self.coverage_min if own is None else own

    def as_dict(self) -> dict[str, Any]:
        """The options that parse() takes, as the plan's hash and the ledger hold them."""
        return given_by(self)


SPEC_OPTIONS = argument_spec(Spec)
STEERING = ("max_commit_ms", "max_probe_ratio")
THRESHOLDS = tuple(n for n in SPEC_OPTIONS if n.startswith("max_") and n not in STEERING)
