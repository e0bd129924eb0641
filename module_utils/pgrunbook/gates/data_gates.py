# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates: what was wanted, what was measured, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog, ledger
from ..backfill import eligibility, unfillable
from ..backfill.equality import Rules, differs, rules, same
from ..backfill.estimate import Estimate, rows_left
from ..backfill.progress import about
from ..catalog import TableInfo, conversion
from ..core.connection import Connection, one
from ..core.spec import APART, DIFFER, EQUAL, Spec
from ..core.sql import name, table, text
from ..core.values import plain
from ..ddl import index_plan
from .gate import Gate, check


def orphans(rows: int) -> Gate:
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


def canary(conn: Connection, spec: Spec, run_id: str) -> dict[str, Any]:
    """Compare every row that this run has changed with its source; and what is left of the run, as
    estimated from these rows."""
    info = catalog.inspect(conn, spec.table)
    by = rules(conn, spec, info)
    written = ledger.standing_entries(Literal(run_id))
    found = _compare(conn, spec, info, by, _rows_of_run(spec, info, written))
    share = eligibility.percentage(found["matched"], found["compared"])
    return {
        "changed": False,
        "checks": [
            check(
                "canary",
                "Canary rows equal to their source",
                test=6,
                target=f"≥ {spec.accuracy_min:g} % of {spec.canary_rows:,} rows"
                + _kept_target(spec, found),
                measured=f"{share} % of {found['compared']:,} rows{_kept_text(spec, found)}",
                passed=found["compared"] + found.get("kept", 0) + found.get("kept_alone", 0) > 0
                and share >= spec.accuracy_min,
                evidence=found,
            ),
            *_estimate(spec, rows_left(conn, spec, run_id)),
        ],
    }


def _estimate(spec: Spec, left: Estimate | None) -> list[Gate]:
    """The gate on the time that is left, a warning by default; none where nothing was measured."""
    if left is None:
        return []
    window = left.window_seconds
    alone = left.rows_measured <= spec.canary_rows
    conditions = ", with one worker and all indexes in place" if alone else ""
    ends = "" if window is None else f"; the window ends in {about(max(window, 0.0))}"
    time = "nobody knows for how long: all that was filled was kept below a rate that somebody set"
    if left.seconds is not None:
        time = (
            f"{about(left.seconds)} at {left.rows_per_second:,} rows/s (measured on the "
            f"first {left.rows_measured:,} rows{conditions})"
        )
    return [
        check(
            "estimate",
            "Rows, batches and time that are left",
            test=3,
            target=f"done before {spec.window_end}" if spec.window_end else "measured",
            measured=f"{left.rows:,} rows in about {left.batches:,} batches, {time}{ends}",
            passed=window is None or (left.seconds is not None and left.seconds <= window),
            enforce=False,
            evidence=plain(left),
        )
    ]


def validate(conn: Connection, spec: Spec) -> dict[str, Any]:
    """The checks of the report's tests 3 and 6, and the indexes, on the database as it is now."""
    info = catalog.inspect(conn, spec.table)
    eligibility.acknowledged_functions(conn, spec, info)
    by = rules(conn, spec, info)
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
            _accuracy(conn, spec, info, by, aside),
            _comparison(conn, spec, info, by, aside),
            _indexes(conn, spec, info),
        ],
    }


def _coverage(spec: Spec, counts: dict[str, Any]) -> Gate:
    now = {column: share["before"] for column, share in counts["coverage"].items()}
    return check(
        "coverage",
        "Coverage of each column",
        test=3,
        target=f"{coverage_target(spec)} of all rows",
        measured=", ".join(f"{column} {share} %" for column, share in now.items()),
        passed=all(share >= spec.coverage_of(column) for column, share in now.items()),
        evidence=now,
    )


def coverage_target(spec: Spec) -> str:
    """What the phase wants of each column's coverage: of all, then of those with a share of their
    own."""
    own = [f"{c.name} {c.coverage_min:g} %" for c in spec.columns if c.coverage_min is not None]
    return f"≥ {spec.coverage_min:g} %" + (f" ({', '.join(own)})" if own else "")


def _nothing_left(counts: dict[str, Any]) -> Gate:
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
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, aside: Composable | None
) -> Gate:
    found = _compare(conn, spec, info, by, _random_rows(spec), aside)
    share = eligibility.percentage(found["matched"], found["compared"])
    return check(
        "accuracy",
        "Data quality of a random sample",
        test=6,
        target=f"≥ {spec.accuracy_min:g} % of {spec.sample_rows:,} rows"
        + _kept_target(spec, found),
        measured=f"{share} % of {found['compared']:,} rows (seed {spec.sample_seed})"
        + _kept_text(spec, found),
        passed=share >= spec.accuracy_min,
        evidence={**found, "seed": spec.sample_seed},
    )


def _comparison(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, aside: Composable | None
) -> Gate:
    found = _compare(conn, spec, info, by, _all_rows(spec), aside)
    besides = f"; {apart(found['refused'])}, are not among them" if found["refused"] else ""
    drifted = _drifted(conn, spec, info, by) if found["different"] else 0
    share = eligibility.percentage(found["matched"] + drifted, found["compared"])
    lacking = f"{found['missing']:,} lack a value, " if found["missing"] else ""
    return check(
        "comparison",
        "Exact comparison of every row with its source",
        test=6,
        target=f"≥ {spec.accuracy_min:g} % equal, or filled before the source changed"
        + _kept_target(spec, found),
        measured=f"{share} % of {found['compared']:,} rows; {lacking}{found['different']:,} "
        f"differ, {drifted:,} of them because the source changed since{_kept_text(spec, found)}"
        f"{besides}",
        passed=share >= spec.accuracy_min,
        evidence={**found, "drifted": drifted},
    )


def _kept_target(spec: Spec, found: Mapping[str, int]) -> str:
    return f"; old values that were kept: {_KEPT[spec.kept_values]}" if "kept" in found else ""


def _kept_text(spec: Spec, found: Mapping[str, int]) -> str:
    """What was found of the values that a conversion kept; nothing where none did."""
    if "kept" not in found:
        return ""
    parts = [f"{found['kept']:,} rows keep an old value that differs from the source"]
    if found["kept_alone"]:
        parts.append(f"{found['kept_alone']:,} keep one without a source row")
    return f"; {', '.join(parts)} ({_KEPT[spec.kept_values]})"


_KEPT = {
    APART: "counted apart",
    EQUAL: "counted as equal",
    DIFFER: "counted as different where they differ",
}


def _indexes(conn: Connection, spec: Spec, info: TableInfo) -> Gate:
    wanted = [index.name for index in spec.indexes]
    bad = [n for n in wanted if n not in info.indexes or not info.indexes[n].valid]
    bad += [n for n, index in info.indexes.items() if not index.valid and n not in bad]
    pending = [action.index.name for action in index_plan.plan(conn, spec, info)]
    return check(
        "indexes",
        "Indexes present and valid",
        test=2,
        target=f"{len(wanted)} wanted, none invalid",
        measured="all there and valid" if not bad else f"missing or invalid: {', '.join(bad)}",
        passed=not bad and not pending,
        evidence={n: info.indexes[n].definition for n in wanted if n in info.indexes},
    )


def statements(
    spec: Spec, info: TableInfo, by: Rules, *, has_ledger: bool
) -> list[tuple[str, Composed]]:
    """The queries by which the gates compare rows, each after what it is for. Without a ledger
    they are those of an empty journal."""
    held = conversion.held(spec, info.types)
    journal = ledger.standing_entries(None) if has_ledger else ledger.NO_ENTRIES
    rows = {
        "canary": _rows_of_run(spec, info, journal),
        "accuracy": _random_rows(spec),
        "comparison": _all_rows(spec),
    }
    found = [(gate, comparing(spec, held, of, by)) for gate, of in rows.items()]
    if spec.waive_rollback:
        return found
    return [*found, ("comparison", _drifting(spec, info, journal, by))]


def _compare(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    by: Rules,
    rows: Composable,
    aside: Composable | None = None,
) -> dict[str, int]:
    """Compare rows of the table with their source, as comparing() counts them. kept and kept_alone
    are there only where a column was converted."""
    held = conversion.held(spec, info.types)
    found = one(conn, comparing(spec, held, rows, by, aside), ())
    if any(h.moved is not None for h in held.values()):
        return found
    return {key: rows for key, rows in found.items() if key not in ("kept", "kept_alone")}


def comparing(
    spec: Spec,
    held: Mapping[str, conversion.Held],
    rows: Composable,
    by: Rules,
    aside: Composable | None = None,
) -> Composed:
    """The query that compares rows of the table with their source, which counts them.

    A row matches when each value that it is to have is there. missing counts rows that lack one,
    different those that have another one. kept counts rows that are right and keep, in a column
    that was converted, an old value that differs from the source; kept_alone those that keep one
    and have no source row. Whether these are compared, and match, is as phase_kept_values says.
    refused counts rows that lack a value and meet the condition aside; they are not compared.
    """
    return SQL(
        "SELECT count(*) FILTER (WHERE {compared} AND NOT refused) AS compared,\n"
        "  count(*) FILTER (WHERE {matched}) AS matched,\n"
        "  count(*) FILTER (WHERE missing AND NOT refused) AS missing,\n"
        "  count(*) FILTER (WHERE ({different}) AND NOT refused) AS different,\n"
        "  count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE alone) AS kept_alone,\n"
        "  count(*) FILTER (WHERE refused) AS refused\n"
        "FROM (SELECT missing, different, missing AND aside AS refused,\n"
        "  kept AND NOT (missing OR different) AS kept,\n"
        "  alone AND NOT (missing OR different) AS alone\n"
        "  FROM (SELECT coalesce({is_missing}, false) AS missing,\n"
        "    coalesce({is_different}, false) AS different,\n"
        "    coalesce({is_kept}, false) AS kept, s.k0 IS NULL AS alone, {aside} AS aside\n"
        "    FROM ({rows}) t {join} ({source}) s ON {matches}\n"
        "    WHERE {has_origin}) r) c"
    ).format(
        **{which: SQL(condition) for which, condition in _COUNTED[spec.kept_values].items()},
        is_missing=eligibility.eligible(spec, held),
        is_different=different(spec, held, by),
        is_kept=_kept(spec, held, by),
        aside=aside or SQL("false"),
        rows=rows,
        join=eligibility.joined(held),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        has_origin=eligibility.has_origin(held),
    )


_COUNTED = {
    APART: {
        "compared": "NOT kept AND NOT alone",
        "matched": "NOT missing AND NOT different AND NOT kept AND NOT alone",
        "different": "different",
    },
    EQUAL: {
        "compared": "true",
        "matched": "NOT missing AND NOT different",
        "different": "different",
    },
    DIFFER: {
        "compared": "NOT alone",
        "matched": "NOT missing AND NOT different AND NOT kept AND NOT alone",
        "different": "different OR kept",
    },
}
"""By phase_kept_values, which rows are compared, which of these match and which differ."""


def _drifted(conn: Connection, spec: Spec, info: TableInfo, by: Rules) -> int:
    """Rows that differ from the source but still hold what a run wrote: the source has changed."""
    if not ledger.exists(conn) or spec.waive_rollback:
        return 0
    count: int = one(conn, _drifting(spec, info, ledger.standing_entries(None), by), ())["n"]
    return count


def _drifting(spec: Spec, info: TableInfo, journal: Composable, by: Rules) -> Composed:
    held = conversion.held(spec, info.types)
    width = len(spec.key)
    ours = SQL(" AND ").join(
        SQL("({value} IS NOT DISTINCT FROM NULL OR {is_as_now} OR {c}::text = j.e ->> {n})").format(
            value=value,
            is_as_now=same(c, held[c.name].now, value, by),
            c=held[c.name].now,
            n=Literal(width + n),
        )
        for n, (c, value) in enumerate(
            zip(spec.columns, eligibility.values(spec, held), strict=True)
        )
    )
    excused = SQL("NOT coalesce({}, false)").format(_kept(spec, held, by))
    return SQL(
        "SELECT count(*) AS n FROM ({journal}) j JOIN {table} t ON {keys}"
        " {join} ({source}) s ON {matches} WHERE {different} AND {excused} AND {ours}"
    ).format(
        journal=journal,
        table=table(spec.table),
        keys=_journal_keys(spec, info),
        join=eligibility.joined(held),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        different=different(spec, held, by),
        excused=excused if spec.kept_values == DIFFER else SQL("true"),
        ours=ours,
    )


def _all_rows(spec: Spec) -> Composed:
    return SQL("SELECT * FROM {}").format(table(spec.table))


def _random_rows(spec: Spec) -> Composed:
    return SQL("SELECT t.* FROM {} t ORDER BY {} LIMIT {}").format(
        table(spec.table), eligibility.random_order(spec), Literal(spec.sample_rows)
    )


def _rows_of_run(spec: Spec, info: TableInfo, journal: Composable) -> Composed:
    """The rows that the journal lists, by their place where the rollback is waived."""
    if spec.waive_rollback:
        return SQL(
            "SELECT t.* FROM ({}) j JOIN {} t ON t.tableoid = (j.e ->> 0)::oid"
            " AND t.ctid = (j.e ->> 1)::tid"
        ).format(journal, table(spec.table))
    return SQL("SELECT t.* FROM ({}) j JOIN {} t ON {}").format(
        journal, table(spec.table), _journal_keys(spec, info)
    )


def _journal_keys(spec: Spec, info: TableInfo) -> Composed:
    return SQL(" AND ").join(
        SQL("t.{} = (j.e ->> {})::{}").format(name(k), Literal(n), text(info.columns[k].type))
        for n, k in enumerate(spec.key)
    )


def different(spec: Spec, held: Mapping[str, conversion.Held], by: Rules) -> Composed:
    """The condition on t and s that a row has another value than it is to have. by is what
    equality.rules() gives.

    Where a value of the other type is kept, the source's value is right as well.
    """
    return eligibility.any_of(
        differs(c, held[c.name].now, value, by)
        if held[c.name].moved is None
        else SQL("({} AND coalesce({}, true))").format(
            differs(c, held[c.name].now, value, by),
            differs(c, held[c.name].now, eligibility.of_source(n), by),
        )
        for n, (c, value) in enumerate(
            zip(spec.columns, eligibility.values(spec, held), strict=True)
        )
    )


def _kept(spec: Spec, held: Mapping[str, conversion.Held], by: Rules) -> Composable:
    """The condition on t and s that a row keeps a value of the other type, in a column that was
    converted, and the source has another value."""
    kept = [
        SQL("({} AND {})").format(
            same(c, held[c.name].now, moved, by),
            differs(c, held[c.name].now, eligibility.of_source(n), by),
        )
        for n, c in enumerate(spec.columns)
        if (moved := held[c.name].moved) is not None
    ]
    return eligibility.any_of(kept) if kept else SQL("false")
