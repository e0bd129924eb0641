# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates: what was wanted, what was measured, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Literal

from . import catalog, conversion, eligibility, indexes, ledger, limits, unfillable
from .catalog import TableInfo
from .connection import Connection, one
from .estimate import rows_left
from .progress import about
from .spec import ENFORCE, WARN, Spec
from .sql import literal, name, table, text

NOT_ENFORCED = " (not enforced)"


def check(
    id: str,
    title: str,
    *,
    test: int,
    target: str,
    measured: Any,
    passed: bool,
    enforce: bool = True,
    evidence: Any = None,
) -> dict[str, Any]:
    """One gate's result. test is the number of the test in the seed report; status is "pass",
    "fail" (which makes the verdict NO-GO), or "warn" where the gate is not enforced."""
    status = "pass" if passed else "fail" if enforce else "warn"
    return {
        "id": id,
        "title": title,
        "test": test,
        "target": target,
        "measured": measured,
        "status": status,
        "evidence": evidence,
    }


def settle(spec: Spec, gates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The gates, enforced or not as phase_gates has it: one that it sets to warn says so in its
    target, one that it does not name stays as it is. To settle them twice changes nothing."""
    return [_settled(gate, spec.gates.get(gate["id"])) for gate in gates]


def _settled(gate: dict[str, Any], word: str | None) -> dict[str, Any]:
    if word is None:
        return gate
    missed = "fail" if word == ENFORCE else "warn"
    return {
        **gate,
        "target": gate["target"].removesuffix(NOT_ENFORCED)
        + (NOT_ENFORCED if word == WARN else ""),
        "status": "pass" if gate["status"] == "pass" else missed,
    }


def orphans(rows: int) -> dict[str, Any]:
    """The gate on rows whose source key is in no source row; it is a warning
    unless phase_gates says otherwise."""
    return check(
        "orphans",
        "Rows whose source key has no source row",
        test=1,
        target="0",
        measured=rows,
        passed=rows == 0,
        enforce=False,
    )


def verdict(checks: list[dict[str, Any]]) -> dict[str, Any]:
    """GO when no check failed, else NO-GO, with a reason for each that did."""
    reasons = [
        f"{c['title']}: wanted {c['target']}, measured {c['measured']}"
        for c in checks
        if c["status"] == "fail"
    ]
    return {"verdict": "NO-GO" if reasons else "GO", "reasons": reasons}


def canary(conn: Connection, spec: Spec, run_id: str) -> dict[str, Any]:
    """Compare every row that this run has changed with its source; and what is left of the run, as
    estimated from these rows."""
    info = catalog.inspect(conn, spec.table)
    found = _compare(conn, spec, info, _rows_of_run(spec, info, run_id))
    share = eligibility.percentage(found["matched"], found["compared"])
    return {
        "changed": False,
        "checks": [
            check(
                "canary",
                "Canary rows equal to their source",
                test=6,
                target=f"≥ {spec.accuracy_min:g} % of {spec.canary_rows:,} rows",
                measured=f"{share} % of {found['compared']:,} rows",
                passed=found["compared"] > 0 and share >= spec.accuracy_min,
                evidence=found,
            ),
            *_estimate(spec, rows_left(conn, spec, run_id)),
        ],
    }


def _estimate(spec: Spec, left: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The gate on the time that is left, a warning by default; none where nothing was measured."""
    if left is None:
        return []
    window = left["window_seconds"]
    alone = left["rows_measured"] <= spec.canary_rows
    conditions = ", with one worker and all indexes in place" if alone else ""
    ends = "" if window is None else f"; the window ends in {about(max(window, 0.0))}"
    time = "nobody knows for how long: all that was filled was kept below a rate that somebody set"
    if left["seconds"] is not None:
        time = (
            f"{about(left['seconds'])} at {left['rows_per_second']:,} rows/s (measured on the "
            f"first {left['rows_measured']:,} rows{conditions})"
        )
    return [
        check(
            "estimate",
            "Rows, batches and time that are left",
            test=3,
            target=f"done before {spec.window_end}" if spec.window_end else "measured",
            measured=f"{left['rows']:,} rows in about {left['batches']:,} batches, {time}{ends}",
            passed=window is None or (left["seconds"] is not None and left["seconds"] <= window),
            enforce=False,
            evidence=left,
        )
    ]


def validate(conn: Connection, spec: Spec) -> dict[str, Any]:
    """The checks of the report's tests 3 and 6, and the indexes, on the database as it is now."""
    info = catalog.inspect(conn, spec.table)
    eligibility.acknowledged_functions(conn, spec, info)
    aside = unfillable.of_newest_run(conn, spec)
    refused = unfillable.count(conn, spec, info, aside)
    counts = {**eligibility.count(conn, spec, info), "rows_refused": refused}
    return {
        "changed": False,
        "schema": info.schema(),
        "counts": counts,
        "checks": [
            _coverage(spec, counts),
            _nothing_left(counts),
            _accuracy(conn, spec, info, aside),
            _comparison(conn, spec, info, aside),
            _indexes(conn, spec, info),
        ],
    }


def _coverage(spec: Spec, counts: dict[str, Any]) -> dict[str, Any]:
    now = {column: share["before"] for column, share in counts["coverage"].items()}
    return check(
        "coverage",
        "Coverage of each column",
        test=3,
        target=f"≥ {spec.coverage_min:g} % of all rows",
        measured=", ".join(f"{column} {share} %" for column, share in now.items()),
        passed=min(now.values()) >= spec.coverage_min,
        evidence=now,
    )


def _nothing_left(counts: dict[str, Any]) -> dict[str, Any]:
    refused = counts["rows_refused"]
    left = counts["rows_eligible"] - refused
    return check(
        "remaining",
        "Rows that the source could still fill",
        test=3,
        target="0",
        measured=f"{left:,}, and {apart(refused)}" if refused else left,
        passed=left == 0,
        enforce=False,
        evidence={**counts["rows_skipped"], "left": left, "refused": refused},
    )


def apart(refused: int) -> str:
    """How a gate calls rows that it does not hold against the phase."""
    return f"{refused:,} that the server refuses, which are set aside"


def _accuracy(
    conn: Connection, spec: Spec, info: TableInfo, aside: Composable | None
) -> dict[str, Any]:
    found = _compare(conn, spec, info, _random_rows(spec), aside)
    share = eligibility.percentage(found["matched"], found["compared"])
    return check(
        "accuracy",
        "Data quality of a random sample",
        test=6,
        target=f"≥ {spec.accuracy_min:g} % of {spec.sample_rows:,} rows",
        measured=f"{share} % of {found['compared']:,} rows (seed {spec.sample_seed})",
        passed=share >= spec.accuracy_min,
        evidence={**found, "seed": spec.sample_seed},
    )


def _comparison(
    conn: Connection, spec: Spec, info: TableInfo, aside: Composable | None
) -> dict[str, Any]:
    found = _compare(conn, spec, info, SQL("SELECT * FROM {}").format(table(spec.table)), aside)
    besides = f"; {apart(found['refused'])}, are not among them" if found["refused"] else ""
    drifted = _drifted(conn, spec, info) if found["different"] else 0
    share = eligibility.percentage(found["matched"] + drifted, found["compared"])
    return check(
        "comparison",
        "Exact comparison of every row with its source",
        test=6,
        target=f"≥ {spec.accuracy_min:g} % equal, or filled before the source changed",
        measured=f"{share} % of {found['compared']:,} rows; {found['different']:,} differ, "
        f"{drifted} of them because the source changed since{besides}",
        passed=share >= spec.accuracy_min,
        evidence={**found, "drifted": drifted},
    )


def _indexes(conn: Connection, spec: Spec, info: TableInfo) -> dict[str, Any]:
    wanted = [index.name for index in spec.indexes]
    bad = [n for n in wanted if n not in info.indexes or not info.indexes[n].valid]
    bad += [n for n, index in info.indexes.items() if not index.valid and n not in bad]
    pending = [action.index.name for action in indexes.plan(conn, spec, info)]
    return check(
        "indexes",
        "Indexes present and valid",
        test=2,
        target=f"{len(wanted)} wanted, none invalid",
        measured="all there and valid" if not bad else f"missing or invalid: {', '.join(bad)}",
        passed=not bad and not pending,
        evidence={n: info.indexes[n].definition for n in wanted if n in info.indexes},
    )


def _compare(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    rows: Composable,
    aside: Composable | None = None,
) -> dict[str, int]:
    """Compare rows of the table with their source: a row matches when each value that the source
    has is there. missing counts rows that lack one, different those that have another one, and
    refused those that lack one and are set aside, which are not compared."""
    held = conversion.held(spec, info.types)
    missing = eligibility.eligible(spec, held)
    query = SQL(
        "SELECT count(*) FILTER (WHERE NOT {refused}) AS compared,"
        " count(*) FILTER (WHERE NOT coalesce({missing}, false)"
        "   AND NOT coalesce({different}, false)) AS matched,"
        " count(*) FILTER (WHERE {missing} AND NOT {refused}) AS missing,"
        " count(*) FILTER (WHERE {different} AND NOT {refused}) AS different,"
        " count(*) FILTER (WHERE {refused}) AS refused"
        " FROM ({rows}) t {join} ({source}) s ON {matches} WHERE {has_origin}"
    ).format(
        refused=SQL("coalesce({} AND {}, false)").format(missing, aside) if aside else SQL("false"),
        missing=missing,
        different=different(spec, held),
        rows=rows,
        join=eligibility.joined(held),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        has_origin=eligibility.has_origin(held),
    )
    return one(conn, query, ())


def _drifted(conn: Connection, spec: Spec, info: TableInfo) -> int:
    """Rows that differ from the source but still hold what a run wrote: the source has changed."""
    if not ledger.exists(conn) or spec.waive_rollback:
        return 0
    held = conversion.held(spec, info.types)
    expected = eligibility.values(spec, held)
    width = len(spec.key)
    ours = SQL(" AND ").join(
        SQL("({c} = {v}::{type} OR {c}::text = j.e ->> {n})").format(
            c=held[c.name].now, v=expected[n], n=Literal(width + n), type=text(c.type)
        )
        for n, c in enumerate(spec.columns)
    )
    query = SQL(
        "SELECT count(*) AS n FROM ({journal}) j JOIN {table} t ON {keys}"
        " {join} ({source}) s ON {matches} WHERE {different} AND {ours}"
    ).format(
        journal=_journal(None),
        table=table(spec.table),
        keys=_journal_keys(spec, info),
        join=eligibility.joined(held),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        different=different(spec, held),
        ours=ours,
    )
    count: int = one(conn, query, ())["n"]
    return count


def _random_rows(spec: Spec) -> Composed:
    return SQL("SELECT t.* FROM {} t ORDER BY {} LIMIT {}").format(
        table(spec.table), eligibility.random_order(spec), Literal(spec.sample_rows)
    )


def _rows_of_run(spec: Spec, info: TableInfo, run_id: str) -> Composed:
    """The rows that the journal lists, by their place where the rollback is waived."""
    if spec.waive_rollback:
        return SQL(
            "SELECT t.* FROM ({}) j JOIN {} t ON t.tableoid = (j.e ->> 0)::oid"
            " AND t.ctid = (j.e ->> 1)::tid"
        ).format(_journal(run_id), table(spec.table))
    return SQL("SELECT t.* FROM ({}) j JOIN {} t ON {}").format(
        _journal(run_id), table(spec.table), _journal_keys(spec, info)
    )


def _journal(run_id: str | None) -> Composed:
    of_run = SQL("true") if run_id is None else SQL("b.run_id = {}").format(literal(run_id))
    return SQL(
        "SELECT e FROM pgrunbook.batch b, jsonb_array_elements(b.journal) e"
        " WHERE b.reverted_at IS NULL AND {}"
    ).format(of_run)


def _journal_keys(spec: Spec, info: TableInfo) -> Composed:
    return SQL(" AND ").join(
        SQL("t.{} = (j.e ->> {})::{}").format(name(k), Literal(n), text(info.columns[k].type))
        for n, k in enumerate(spec.key)
    )


def different(spec: Spec, held: Mapping[str, conversion.Held]) -> Composed:
    """The condition on t and s that a row has another value than it is to have."""
    return eligibility.any_of(
        SQL(
            "CASE WHEN {now} IS NULL THEN NULL WHEN {overflows} THEN true"
            " ELSE {now} <> {value}::{type} END"
        ).format(
            now=held[c.name].now,
            overflows=limits.overflows(c.type, value),
            value=value,
            type=text(c.type),
        )
        for c, value in zip(spec.columns, eligibility.values(spec, held), strict=True)
    )
