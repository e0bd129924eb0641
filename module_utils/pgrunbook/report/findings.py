# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change board wants to know first: a summary in sentences, and the risks.

Both are made of figures of the run only. A risk is there when a fact of the run calls for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg.sql import SQL

from ..backfill.progress import about
from ..backfill.workers import OLD_TRANSACTION_SECONDS
from ..core import printable
from ..core.spec import Spec, Table
from ..core.sql import name, render, table
from ..plan.text import REASONS
from .evidence import differences, severity
from .words import PASSED

IMPACTS = ("high", "medium", "low")

Told = dict[str, Any]


def sentences(told: Told, spec: Spec | None) -> list[str]:
    """What was asked, what was done, and what it means."""
    if told["kind"] == "rollback":
        return [*_rollback(told), *_meaning(told)]
    return [*_asked(told, spec), *_done(told), *_effect(told), *_meaning(told)]


def risks(told: Told, spec: Spec | None, facts: dict[str, Any]) -> list[dict[str, str]]:
    """The risks that the run's facts show, the worst first: risk, likelihood, impact (high, medium
    or low, and what it is) and mitigation."""
    if told["kind"] == "rollback":
        return list(_triggers_again(told, facts))
    found = [
        *_unfinished(told),
        *_indexes_missing(told),
        *_no_rollback(told, spec),
        *_missed(told),
        *_schema(told),
        *_dependents(facts),
        *_kept(told, facts),
        *_left(told),
        *_refused(told),
        *_horizon(told, facts),
        *_held(told),
        *_unattended(told),
        *_drifted(told),
        *_old_values(told),
        *_with_rollback(told, spec),
    ]
    return sorted(
        found, key=lambda risk: ("high", "medium", "low").index(risk["impact"].split(":")[0])
    )


def _asked(told: Told, spec: Spec | None) -> Iterator[str]:
    if spec is None:
        return
    columns = ", ".join(column.name for column in spec.columns)
    yield (
        f"Asked: fill {columns} of {spec.table}"
        f"{_rows_of(told)} from {spec.source}, so that each has a value in at least "
        f"{spec.coverage_min:g} % of the rows{_own_coverage(spec)}."
    )
    renamed = [f"{c.renamed_from} to {c.name}" for c in spec.columns if c.renamed_from]
    if renamed:
        yield f"The phase renames {', '.join(renamed)}, where that is not done yet."
    converted = [f"{c.name} from {c.converted_from} to {c.type}" for c in spec.columns if c.using]
    if converted:
        yield f"The phase converts {', '.join(converted)}, where that is not done yet."


def _own_coverage(spec: Spec) -> str:
    own = [f"{c.name} in {c.coverage_min:g} %" for c in spec.columns if c.coverage_min is not None]
    return f", but {', '.join(own)}" if own else ""


def _rows_of(told: Told) -> str:
    rows = told["backfill"]["rows_total"]
    return f" ({rows:,} rows)" if rows else ""


def _done(told: Told) -> Iterator[str]:
    done = told["backfill"]
    if not told["approvals"]:
        yield "Done: nothing was approved, and nothing was changed."
        if told["kind"] == "plan" and done["rows_total"]:
            yield f"Planned: {done['rows_eligible']:,} of {done['rows_total']:,} rows to fill."
        return
    batches = (
        f", in {done['batches']:,} batches of which the longest took "
        f"{done['longest_batch_ms']:,.0f} ms"
        if done["batches"]
        else ""
    )
    yield (
        f"Done: {done['rows_changed']:,} of {done['rows_eligible']:,} rows that the source could "
        f"fill were filled in {done['seconds']:,.1f} s of work "
        f"({done['rows_per_second']:,} rows/s){batches}."
    )
    if None not in (done["heap_only_expected_percent"], done["heap_only_percent"]):
        yield (
            f"About {done['heap_only_expected_percent']:.0f} % of the updates were expected to be "
            f"heap-only; of those after the canary {done['heap_only_percent']:.0f} % were."
        )
    if done["after_canary_estimated_seconds"] and done["after_canary_seconds"] is not None:
        yield (
            "When all other rows were approved, the rate so far promised "
            f"{about(done['after_canary_estimated_seconds'])} for them; they took "
            f"{done['after_canary_seconds']:,.1f} s of work, the VACUUM included."
        )
    if done["rows_refused"]:
        yield f"Set aside, because the server refuses to fill them: {done['rows_refused']:,} rows."
    skipped = [
        f"{rows:,} {REASONS.get(reason, reason)}"
        for reason, rows in done["rows_skipped"].items()
        if rows
    ]
    if skipped:
        yield f"Of the others, {'; '.join(skipped)}."
    recorded = [
        f"{change['title'].lower()} ({change['recorded']})"
        for change in told["changes"]
        if change["step"] != "backfill" and change["recorded"] > change["taken_back"]
    ]
    if recorded:
        yield f"Changes of the schema that were recorded: {', '.join(recorded)}."


def _effect(told: Told) -> Iterator[str]:
    shares = [
        f"{column} from {share['before']:g} to {share['after']:g} %"
        for column, share in told["coverage"].items()
        if {"before", "after"} <= set(share)
    ]
    if shares:
        yield f"Coverage went for {', for '.join(shares)}."
    for found in told["checks"]:
        if found["id"] == "comparison":
            yield f"Compared with the source: {found['measured']}."
    for pair in told["queries"]:
        if "time_ratio" in pair:
            yield (
                f"“{pair['name']}” takes {100 / max(pair['time_ratio'], 0.01):,.0f} % of the time "
                f"and {100 / max(pair['buffer_ratio'], 0.01):,.0f} % of the buffers of the query "
                "that it replaces."
            )


def _meaning(told: Told) -> Iterator[str]:
    missed = [found["title"] for found in told["checks"] if found["status"] == "warn"]
    if told["verdict"] == "GO":
        yield f"GO: {PASSED[told['kind']]}"
    else:
        yield f"NO-GO: {'; '.join(told['reasons'])}"
    if missed:
        yield f"Missed, but not enforced by the phase: {'; '.join(missed)}."
    if told["verdict"] != "GO" and told["backfill"]["rows_changed"] and told["kind"] == "run":
        yield (
            f"What was changed stays in place until it is undone, "
            f"{told['backfill']['rows_changed']:,} rows among it."
        )


def _rollback(told: Told) -> Iterator[str]:
    done = told["backfill"]
    yield (
        f"Asked: undo run {told['run_id']}. Done: {done['rows_changed']:,} rows were given back; "
        f"{done['rows_left_alone']:,} were left alone, because somebody has changed or deleted "
        "them since, or a trigger has put a value back."
    )


def _unfinished(told: Told) -> Iterator[dict[str, str]]:
    if told["error"] and told["approvals"]:
        yield _risk(
            "The run was broken off, and the change is half-done.",
            "certain",
            "high: rows, columns or indexes may be in either state",
            "Every committed batch is in the journal. Running the phase again goes on where it "
            "stopped; the rollback takes it back.",
        )


def _indexes_missing(told: Told) -> Iterator[dict[str, str]]:
    kinds = [moment["event"] for moment in told["timeline"]]
    dropped = kinds.count("Index to be dropped for the backfill")
    if not dropped:
        return
    passed = any(c["id"] == "indexes" and c["status"] == "pass" for c in told["checks"])
    yield _risk(
        f"{dropped} {'index was' if dropped == 1 else 'indexes were'} dropped for the backfill"
        + (" and built again after it." if passed else "; not all of them are known to be back."),
        "past" if passed else "certain until they are built",
        "low: queries on these columns had no index meanwhile, see the timeline"
        if passed
        else "high: queries on these columns have no index",
        "Dropping and building are concurrent, so writers were not blocked; the check of the "
        "indexes says whether all are there and valid."
        + ("" if passed else " Running the phase again builds them."),
    )


def _no_rollback(told: Told, spec: Spec | None) -> Iterator[dict[str, str]]:
    if spec and spec.waive_rollback and told["approvals"]:
        yield _risk(
            "The rollback is waived: nobody can tell later which rows the run changed.",
            "certain",
            "high: the rows come back from a backup only",
            "None in the runbook: have a backup that was restored once. The schema change can be "
            "undone by hand.",
        )


def _with_rollback(told: Told, spec: Spec | None) -> Iterator[dict[str, str]]:
    done = told["backfill"]
    if spec and not spec.waive_rollback and told["approvals"]:
        yield _risk(
            "The change turns out to be unwanted later.",
            "unlikely" if told["verdict"] == "GO" else "likely",
            f"low: {done['rows_changed']:,} rows and the schema change have to go back",
            "The journal lists each row that was changed; the rollback gives back just those, but "
            "none that somebody has changed since. It works as long as the journal is kept.",
        )


def _missed(told: Told) -> Iterator[dict[str, str]]:
    for found in told["checks"]:
        failed = found["status"] == "fail"
        told_elsewhere = ["schema"] if failed else ["schema", "remaining", "orphans"]
        if found["status"] == "pass" or found["id"] in told_elsewhere:
            continue
        yield _risk(
            f"{found['title']}: wanted {found['target']}, measured {found['measured']}.",
            "certain: measured",
            "high: an enforced gate"
            if failed
            else "medium: a gate that the phase does not enforce",
            "The verdict is NO-GO." if failed else "None: accepted with the phase's settings.",
        )


def _schema(told: Told) -> Iterator[dict[str, str]]:
    found = [d for c in told["checks"] for d in differences(c) if severity(d) != "note"]
    for difference in found:
        critical = severity(difference) == "critical"
        options = [o for o in difference.get("resolutions") or [] if o.get("recommended")]
        yield _risk(
            f"Schema: {difference.get('text', difference.get('object', '?'))}.",
            "certain: measured",
            f"{'high' if critical and not difference.get('acknowledged') else 'medium'}: "
            f"{difference.get('impact') or 'the models expect something else'}",
            "The phase acknowledges it."
            if difference.get("acknowledged")
            else f"Recommended: {options[0].get('option')}."
            if options
            else "See test 2.",
        )


def _dependents(facts: dict[str, Any]) -> Iterator[dict[str, str]]:
    plan = (facts.get("plan") or {}).get("plan") or {}
    broken = [d["object"] for d in plan.get("dependents", []) if not d.get("follows", True)]
    if broken:
        yield _risk(
            f"These are on a column as it was, or have its old name as text, and do not go along: "
            f"{', '.join(broken)}.",
            "certain, unless they were changed",
            "high: they fail, or find old values, when they are used",
            "The phase acknowledges them; somebody has to change each.",
        )
    if plan.get("triggers"):
        yield _risk(
            f"Triggers fired for every row that was filled: {', '.join(plan['triggers'])}.",
            "certain",
            "medium: a rollback does not take back what they did, and fires them again",
            "The phase acknowledges them.",
        )
    if plan.get("volatile"):
        yield _risk(
            f"The phase calls volatile functions: {', '.join(plan['volatile'])}.",
            "certain",
            "medium: the dry run and the checks called them as well, and may have got other values",
            "The phase acknowledges them.",
        )


def _kept(told: Told, facts: dict[str, Any]) -> Iterator[dict[str, str]]:
    plan = facts.get("plan") or {}
    made = any(c["step"] == "convert" and c["recorded"] > c["taken_back"] for c in told["changes"])
    for each in plan.get("conversions", []) if made else []:
        yield _risk(
            f"{each['aside']} still holds the values of type {each['from']}.",
            "certain",
            "low: it takes space, and nobody fills it",
            "The rollback needs it. Once that is not wanted any more: "
            f"{_dropping(plan['plan']['spec'], each['aside'])} That also drops its values and its "
            "indexes.",
        )


def _dropping(spec: dict[str, Any], column: str) -> str:
    """What drops a column of the phase's table, in a line that can be copied."""
    on = Table(spec["schema"], spec["table"])
    statement = render(SQL("ALTER TABLE {} DROP COLUMN {}").format(table(on), name(column)))
    return f"SET lock_timeout = '{spec['lock_timeout_ms']}ms'; {printable.sql(statement)};"


def _left(told: Told) -> Iterator[dict[str, str]]:
    for found in told["checks"]:
        if found["status"] == "pass":
            continue
        if found["id"] == "remaining":
            left = (found["evidence"] or {}).get("left", found["measured"])
            yield _risk(
                f"{left:,} rows are left that the source could fill.",
                "certain: measured",
                "medium: queries on the filled columns do not find them",
                "Running the phase again fills them. New rows appear here as long as the "
                "application writes rows without these values.",
            )
        if found["id"] == "orphans":
            yield _risk(
                f"{found['measured']:,} rows have a source key without a source row.",
                "certain: measured",
                "low: they stay NULL",
                "They are counted, never filled with a stand-in. Running the phase again fills "
                "them once they have a source row.",
            )


def _refused(told: Told) -> Iterator[dict[str, str]]:
    rows = told["backfill"]["rows_refused"]
    if rows:
        yield _risk(
            f"The server refuses to fill {rows:,} {'row' if rows == 1 else 'rows'}.",
            "certain: measured",
            "medium: they lack their values, and queries on the filled columns do not find them",
            "They are set aside and listed with what the server says. Mend what they hold or would "
            "get, then run the phase again.",
        )


def _triggers_again(told: Told, facts: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The triggers that a rollback has fired."""
    triggers = ((facts.get("plan") or {}).get("plan") or {}).get("triggers")
    if triggers and told["approvals"]:
        yield _risk(
            f"Triggers fired for every row that was given back: {', '.join(triggers)}.",
            "certain",
            "medium: nothing takes back what they did, now and when the rows were filled",
            "They are acknowledged. What they put back is counted among the rows left alone.",
        )


def _horizon(told: Told, facts: dict[str, Any]) -> Iterator[dict[str, str]]:
    seen = [point["fallback"] for point in told["history"]["slices"] if point.get("fallback")]
    planned = (facts.get("plan") or {}).get("horizon") or ""
    oldest = told["health"].get("oldest_transaction_seconds") or 0
    if not seen and not planned and oldest < OLD_TRANSACTION_SECONDS:
        return
    if seen:
        yield _risk(
            f"The backfill went over to single passes, because of {seen[0]}.",
            "seen",
            "medium: dead rows were not pruned, or had no room, so the table grew more and updates "
            "cost more",
            f"The next slice tries again; {len(seen)} points of the history show it.",
        )
        return
    yield _risk(
        f"A long transaction was seen: {planned or f'one of {oldest:g} s before the run'}.",
        "seen",
        "medium: it keeps dead rows from being pruned, so the table grows more and updates cost "
        "more",
        "The backfill watches for it and goes over to single passes while it lasts; here it did "
        "not.",
    )


def _held(told: Told) -> Iterator[dict[str, str]]:
    points = told["history"]["slices"]
    held = sum(point.get("held_seconds") or 0 for point in points)
    lag = max((point.get("replay_lag") or 0 for point in points), default=0)
    if held or lag >= 1:
        why = next((point["held"] for point in points if point.get("held")), "")
        yield _risk(
            f"The backfill was held for {held:.1f} s; the standby's lag was {lag:.1f} s at most.",
            "seen",
            "low: the run takes longer",
            f"Thresholds hold it before others suffer{f': {why}' if why else ''}.",
        )


def _unattended(told: Told) -> Iterator[dict[str, str]]:
    scopes = [a["scope"] for a in told["approvals"] if a["method"] == "unattended"]
    if scopes:
        yield _risk(
            f"Approved without a prompt: {', '.join(scopes)}.",
            "certain",
            "low: nobody looked at the canary before the other rows were filled"
            if "backfill" in scopes
            else "low: nobody was asked",
            "The approval named the hash of exactly this plan, and the canary's gate had to pass.",
        )


def _drifted(told: Told) -> Iterator[dict[str, str]]:
    for found in told["checks"]:
        drifted = (found["evidence"] or {}).get("drifted") if found["id"] == "comparison" else 0
        if drifted:
            yield _risk(
                f"The source has changed since {drifted:,} rows were filled.",
                "certain: measured",
                "low: these rows hold what was right when they were filled",
                "They are told apart from wrong ones by the journal. Nothing follows the source "
                "later: the columns are a snapshot.",
            )


def _old_values(told: Told) -> Iterator[dict[str, str]]:
    for found in told["checks"]:
        kept = (found["evidence"] or {}).get("kept") if found["id"] == "comparison" else 0
        if kept:
            yield _risk(
                f"{kept:,} rows keep an old value, converted, that differs from the source.",
                "certain: measured",
                "medium: queries on the filled columns find what the JOIN does not",
                "phase_kept_values says how they count. To take the source's values, empty the old "
                "column in these rows before the run.",
            )


def _risk(risk: str, likelihood: str, impact: str, mitigation: str) -> dict[str, str]:
    return {"risk": risk, "likelihood": likelihood, "impact": impact, "mitigation": mitigation}
