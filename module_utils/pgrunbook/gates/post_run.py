# SPDX-License-Identifier: GPL-3.0-or-later
"""How a phase stands on any day after its run: its gates again, and whether its queries are still
as fast as the run found them. Only reads; needs neither run, approval nor ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from psycopg.sql import SQL, Composable, Composed

from .. import catalog, ledger
from ..backfill import eligibility, unfillable
from ..catalog import Server, conversion
from ..core.connection import Connection, one
from ..core.spec import Spec
from ..core.spec_checks import WARN
from ..core.sql import name, table
from ..core.values import plain, read
from ..ledger import journal
from . import data_gates
from .gate import FAIL, PASS, Gate, check, settle
from .query_gates import DIFFERENT, met

MOST_LOOKED_AT_TWICE = 10_000  # rows; more than these are no handful that has just arrived
LONGEST_PAUSE = 20.0  # seconds; the server ends a transaction that idles for a minute
LEAST_RATIO = 0.01  # the step in which a report rounds ratios

Earlier = dict[str, Any]


def validate(
    conn: Connection, spec: Spec, *, unfilled_max: int, grace_seconds: float
) -> dict[str, Any]:
    """Health, the newest run, as ledger.latest() has it, and the gates of checks.validate(), where
    no more than unfilled_max rows may be left that the source could fill.

    Rows that the newest run has set aside are left out. A row counts when it can be filled at two
    looks, grace_seconds apart: what fills new rows has
    had that long. There is no second look where the first one finds few enough, or more than
    MOST_LOOKED_AT_TWICE.
    """
    measured = data_gates.validate(conn, spec)
    server = catalog.inspect_server(conn)
    unfilled = _unfilled(conn, spec, measured["counts"], unfilled_max, grace_seconds)
    gates = [unfilled if g.id == "remaining" else g for g in measured["checks"]]
    gates += _journals(conn) if ledger.exists(conn) else []
    return {
        **measured,
        "server": plain(server),
        "run": plain(ledger.latest(conn, spec.phase, str(spec.table))) or {},
        "checks": [*_health(conn, spec, server), *gates],
    }


def kept(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The share of a query's earlier speed-up that is left; 1 is all of it.

    Where either measurement found every page in shared buffers, time shows processor work only, as
    in comparison.decide(): then the better one of time and buffers counts.
    """
    in_time, in_buffers = (
        float(now[ratio]) / max(float(before[ratio]), LEAST_RATIO)
        for ratio in ("time_ratio", "buffer_ratio")
    )
    cold = before["read_from_outside"] and now["read_from_outside"]
    return round(in_time if cold else max(in_time, in_buffers), 4)


def judge(
    spec: Spec,
    results: Sequence[Mapping[str, Any]],
    *,
    earlier: Earlier,
    fall_max: float,
    command: str,
) -> dict[str, Any]:
    """Every gate, from the results of the modules that measured.

    Results of a query that differ from those of the one that it replaces are no breach where rows
    differ from their source now, or lack a value still, and the comparison holds all the same: the
    source goes on changing, what was filled does not. Whether these are too many is what the
    comparison decides.

    fall_max is how much of its earlier speed-up a query may lose, in per cent; command is how the
    phase is run. Returns checks, breached (their ids), text (a line for each, after one for a run
    that was taken back) and verdict: OK, or BREACHED with the next step for each gate that is.
    """
    found = [read(Gate, gate) for result in results for gate in result.get("checks", [])]
    compared = [gate for gate in settle(spec, found) if gate.id == "comparison"]
    measured = [_explained(spec, gate, compared) for gate in found]
    proofs = [result.get("proof") or {} for result in results if "checks" in result]
    judged = [*measured, *_speedups(spec, measured, earlier, fall_max), _only_read(proofs)]
    gates = settle(spec, judged)
    breached = [gate for gate in gates if gate.status == FAIL]
    unfilled = _evidence(gates, "remaining").get("unfilled", 0)
    reverted = _reverted(results)
    lines = [f"{gate.status.upper():4}  {gate.title}: {gate.measured}" for gate in gates]
    return {
        "checks": gates,
        "breached": [gate.id for gate in breached],
        "text": "\n".join([*([reverted] if reverted else []), *lines]),
        "verdict": _verdict(spec, gates, breached, unfilled, command, reverted),
    }


def _reverted(results: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on the newest run of the phase if it was taken back, else nothing."""
    runs = [result["run"] for result in results if result.get("run")]
    if not runs or runs[0]["state"] != "reverted":
        return ""
    return (
        f"Run {runs[0]['id']} was taken back at {runs[0]['finished_at']}, and none followed: what "
        "the gates miss is what it had done."
    )


def figures(spec: Spec, gates: Sequence[Gate]) -> dict[str, Any]:
    """What metrics.write_standing() takes: the gates' evidence and whether they are breached, by
    the gate's id; at, now in seconds since 1970; coverage_min by column, 0 to 1."""
    return {
        "phase": spec.phase,
        "table": str(spec.table),
        "at": time.time(),
        "coverage_min": {c.name: spec.coverage_of(c.name) / 100 for c in spec.columns},
        "breached": {gate.id: gate.status == FAIL for gate in gates},
        "evidence": {gate.id: gate.evidence for gate in gates},
    }


def _health(conn: Connection, spec: Spec, server: Server) -> list[Gate]:
    query = SQL(
        "SELECT (SELECT count(*) FROM {source}) AS sources, count(*) AS rows,"
        " count(*) FILTER (WHERE s.k0 IS NULL AND NOT {no_key}) AS orphans"
        " FROM {table} t LEFT JOIN ({rows}) s ON {matches}"
    ).format(
        source=table(spec.source),
        no_key=eligibility.any_of(SQL("t.{} IS NULL").format(name(c)) for c in spec.source_key),
        table=table(spec.table),
        rows=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
    )
    row = one(conn, query, ())
    return [
        check(
            "connectivity",
            "Database connectivity",
            test=1,
            target="the server answers",
            measured=f"PostgreSQL {server.version}{', a standby' if server.standby else ''}, "
            f"{row['rows']:,} rows, {row['sources']:,} source rows",
            passed=True,
        ),
        data_gates.orphans(row["orphans"]),
    ]


def _journals(conn: Connection) -> list[Gate]:
    """The journals of all runs in the database, against the events."""
    found = journal.compare(conn)
    said = [*found.altered, *found.gone, *found.unknown]
    return [
        check(
            "journal",
            "Journals that rollbacks need",
            test=6,
            target="each as the events recorded it",
            measured=" ".join(said) or "as the events recorded them",
            passed=not found.altered,
        )
    ]


def _unfilled(
    conn: Connection, spec: Spec, counts: dict[str, Any], most: int, grace_seconds: float
) -> Gate:
    refused = counts["rows_refused"]
    at_first = left = counts["rows_eligible"] - refused
    looked_twice = most < at_first <= MOST_LOOKED_AT_TWICE
    if looked_twice:
        left = _still_unfilled(conn, spec, grace_seconds)
    return check(
        "remaining",
        "Rows that the source could still fill",
        test=3,
        target=f"≤ {most:,}, at two looks {grace_seconds:g} s apart",
        measured=(
            f"{left:,} of {at_first:,}, after {grace_seconds:g} s" if looked_twice else f"{left:,}"
        )
        + (f", and {data_gates.apart(refused)}" if refused else ""),
        passed=left <= most,
        evidence={
            "at_first": at_first,
            "unfilled": left,
            "refused": refused,
            **counts["rows_skipped"],
        },
    )


def _still_unfilled(conn: Connection, spec: Spec, grace_seconds: float) -> int:
    """How many of the rows that can be filled now still can in that many seconds."""
    info = catalog.inspect(conn, spec.table)
    aside = unfillable.of_newest_run(conn, spec)
    unfilled = _eligible_keys(spec, conversion.held(spec, info.types), aside)
    keys = [row["key"] for row in conn.execute(unfilled, ())]
    _wait(conn, grace_seconds)
    query = SQL("SELECT count(*) AS n FROM ({}) u WHERE key = ANY (%s)").format(unfilled)
    count: int = one(conn, query, (keys,))["n"]
    return count


def _eligible_keys(
    spec: Spec, held: Mapping[str, conversion.Held], aside: Composable | None
) -> Composed:
    return SQL(
        "SELECT jsonb_build_array({keys})::text AS key FROM {table} t {join} ({source}) s"
        " ON {matches} WHERE {eligible} AND NOT {aside}"
    ).format(
        aside=aside or SQL("false"),
        join=eligibility.joined(held),
        keys=eligibility.identity(spec),
        table=table(spec.table),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        eligible=eligibility.eligible(spec, held),
    )


def _wait(conn: Connection, seconds: float) -> None:
    """Wait without a snapshot, which would hold back the xmin horizon, and without idling so long
    that the server ends the transaction."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LONGEST_PAUSE))
        conn.execute("SELECT")


def _explained(spec: Spec, gate: Gate, compared: Sequence[Gate]) -> Gate:
    """The gate; if it is that of a query whose results differ, and rows that differ from their
    source account for that, which are not too many, judged by its speed-up alone. compared has the
    gate of the comparison, where that was measured."""
    pair: dict[str, Any] = gate.evidence if gate.id.startswith("query:") else {"equal": True}
    why = [_accounted(each.evidence) for each in compared if each.status != FAIL]
    if pair["equal"] or not any(why):
        return gate
    enforced = {query.name: query.enforce for query in spec.queries}
    passed, _ = met(spec, pair)
    missed = FAIL if enforced.get(pair["name"], True) else WARN
    said = str(gate.measured).replace(DIFFERENT, f"results differ, because {why[0]}")
    return replace(gate, status=PASS if passed else missed, measured=said)


def _accounted(found: Mapping[str, int]) -> str:
    """Which rows are not as their source is now; nothing where all are."""
    missing = found.get("missing", 0)
    differ = found.get("compared", 0) - found.get("matched", 0) - missing
    parts = [f"{differ:,} rows differ from their source now"] if differ > 0 else []
    return " and ".join([*parts, *([f"{missing:,} rows lack a value"] if missing else [])])


def _speedups(
    spec: Spec, measured: Sequence[Gate], earlier: Earlier, fall_max: float
) -> list[Gate]:
    """For each query that was measured, whether it has kept its speed-up. Where nothing is known of
    it that is a warning."""
    pairs = {query.name: _evidence(measured, f"query:{query.name}") for query in spec.queries}
    return [
        _speedup(query.name, pair, earlier, fall_max, query.enforce)
        for query in spec.queries
        if (pair := pairs[query.name])
    ]


def _speedup(
    query: str, now: Mapping[str, Any], earlier: Earlier, fall_max: float, enforce: bool
) -> Gate:
    before = earlier.get("queries", {}).get(query)
    left = kept(before, now) if before else None
    measured = "no earlier measurement"
    if before:
        measured = (
            f"{now['time_ratio']} × in time, {now['buffer_ratio']} × in buffers; it was "
            f"{before['time_ratio']} × and {before['buffer_ratio']} × in {earlier['run_id']}"
        )
    return check(
        f"speedup:{query}",
        f"Speed-up kept: {query}",
        test=5,
        target=f"at most {fall_max:g} % less than the latest run measured"
        + ("" if enforce else " (not enforced)"),
        measured=measured,
        passed=left is not None and left >= 1 - fall_max / 100,
        enforce=enforce and before is not None,
        evidence={"before": before, "kept": left},
    )


def _only_read(proofs: Sequence[Mapping[str, Any]]) -> Gate:
    writing = [p for p in proofs if not p.get("read_only") or p.get("xid") is not None]
    xids = ", ".join(str(p["xid"]) for p in writing if p.get("xid") is not None)
    return check(
        "read_only",
        "The validation only read",
        test=4,
        target="transaction_read_only on, transaction id none, in every session",
        measured=f"the server says: transaction_read_only {'OFF' if writing else 'on'}, "
        f"transaction id {xids or 'none'}, in {len(proofs)} sessions",
        passed=bool(proofs) and not writing,
        evidence=list(proofs),
    )


def _verdict(
    spec: Spec,
    gates: Sequence[Gate],
    breached: Sequence[Gate],
    unfilled: int,
    command: str,
    reverted: str,
) -> str:
    proof = gates[-1].measured.replace("the", "The", 1)
    if not breached:
        return f"OK  {spec.phase} on {spec.table}, {len(gates)} gates. {proof}."
    steps = [
        f"{gate.title}: wanted {gate.target}, measured {gate.measured}. "
        f"Next step: {_next_step(gate.id, unfilled, command)}"
        for gate in breached
    ]
    head = (
        f"BREACHED  {spec.phase} on {spec.table}, {len(breached)} of {len(gates)} gates. {proof}."
    )
    return "\n".join([head, *([reverted] if reverted else []), *steps])


def _next_step(gate: str, unfilled: int, command: str) -> str:
    """What a person does about a breached gate."""
    kind = gate.partition(":")[0]
    fill = f"run the phase again to fill {unfilled:,} rows: {command}"
    steps = {
        "coverage": fill
        if unfilled
        else "no row can be filled now; complete the source, then run the phase again: " + command,
        "remaining": f"{fill}; and see why what adds rows leaves them empty.",
        "accuracy": _DIFFERENT,
        "comparison": _DIFFERENT,
        "indexes": f"run the phase again, which builds what is missing: {command}",
        "schema": "mend the database or the models; a dry run lists each difference with the ways "
        f"out: {command} --check",
        "query": "where the results differ, see with psql in which rows, and correct the query; "
        "else ANALYZE the table, and compare the plans in report.json with the present ones.",
        "speedup": "ANALYZE the table, see whether its indexes have grown, then compare the plans "
        "in report.json with the present ones.",
        "journal": "find out who may write to schema pgrunbook; a rollback of that run is refused "
        "unless its loss is accepted (docs/rollback.md).",
        "read_only": "tell whoever maintains this playbook; the session could have written.",
    }
    return steps.get(kind, f"see what a dry run says: {command} --check")


_DIFFERENT = (
    "find out what writes these columns, or changed the source; rows that miss a value are filled "
    "when the phase is run again, others are never overwritten."
)


def _evidence(gates: Sequence[Gate], id: str) -> dict[str, Any]:
    """The evidence of a gate; empty where it was not measured."""
    found: Iterable[dict[str, Any]] = (gate.evidence for gate in gates if gate.id == id)
    return next(iter(found), {})
