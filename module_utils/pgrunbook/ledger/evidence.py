# SPDX-License-Identifier: GPL-3.0-or-later
"""Has somebody changed the ledger's events, an approval, a journal or a report since? Only reads.

Whoever may write to the ledger can make up a chain of events that holds. What they cannot do is
make up one that fits the reports, which are somewhere else: each has the head of the chain that it
saw, and the ledger has each report's SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import catalog
from ..core.connection import Connection
from . import events, integrity, journal, schema
from .approvals import plan_hash

CHANGED, EVENTS_GONE, UNRECORDED = "changed", "events gone", "unrecorded"

# An approval is in its own table, where the modules look it up, and in an event. An older version
# recorded less in both.
_APPROVALS = """
SELECT coalesce(a.run_id, e.run) AS run, coalesce(a.scope, e.detail ->> 'scope') AS scope
FROM (SELECT run_id, jsonb_build_object('scope', scope, 'plan_hash', plan_hash, 'by', approved_by,
             'origin', approved_from, 'method', method) || jsonb_strip_nulls(jsonb_build_object(
                 'claimed', to_jsonb(p) -> 'claimed',
                 'database_user', to_jsonb(p) -> 'database_user',
                 'controller_user', to_jsonb(p) -> 'controller_user',
                 'execution', to_jsonb(p) -> 'execution',
                 'rollout', to_jsonb(p) #> '{rollout,id}',
                 'rollout_hash', to_jsonb(p) #> '{rollout,hash}',
                 'signatures', (SELECT jsonb_agg(jsonb_build_object('signer', s -> 'signer',
                         'key', s -> 'key', 'sha256', s -> 'sha256') ORDER BY number)
                     FROM jsonb_path_query(to_jsonb(p), '$.signatures[*] ? (@ != null)')
                         WITH ORDINALITY AS q (s, number)))) AS detail,
             row_number() OVER (PARTITION BY run_id ORDER BY id) AS n, scope
      FROM pgrunbook.approval p) a
FULL JOIN (SELECT body ->> 'run' AS run, body -> 'detail' AS detail,
                  row_number() OVER (PARTITION BY body ->> 'run' ORDER BY id) AS n
           FROM pgrunbook.event WHERE body ->> 'kind' = 'approved') e
  ON e.run = a.run_id AND e.n = a.n
WHERE a.detail IS DISTINCT FROM e.detail
ORDER BY 1, 2
"""
_HEAD = """
SELECT EXISTS (SELECT FROM (SELECT hash, row_number() OVER (ORDER BY id) AS n
                            FROM pgrunbook.event) e WHERE n = %s AND hash = %s) AS there
"""
_RECORDED = """
SELECT EXISTS (SELECT FROM pgrunbook.event WHERE body ->> 'run' = %s
               AND body -> 'detail' ->> 'report_sha256' = %s) AS there
"""


@dataclass(frozen=True)
class AlteredReport:
    """A report that was changed since it was written, that saw events which the ledger no longer
    has, or that the ledger did not record; events is how many it saw."""

    path: str
    what: str
    events: int = 0


@dataclass(frozen=True)
class Evidence:
    """What somebody has changed since it was written: events that do not follow from the one
    before, approvals (run and scope) that are not the one in the events, approved plans (run and
    hash) that no longer have their hash, states of runs, reports, and journals with schema
    changes."""

    events: tuple[int, ...] = ()
    approvals: tuple[tuple[str, str], ...] = ()
    plans: tuple[tuple[str, str], ...] = ()
    states: tuple[integrity.AlteredState, ...] = ()
    reports: tuple[AlteredReport, ...] = ()
    journals: journal.Findings = field(default_factory=journal.Findings)


def compare(conn: Connection, found: Iterable[Mapping[str, Any]]) -> Evidence:
    """What of the ledger and of reports is not as it was written; found is what
    report_info.reports() gives. Reports on other databases are passed over."""
    reports = tuple(_reports(conn, found))
    if not schema.exists(conn):
        return Evidence(reports=reports)
    approvals = conn.execute(_APPROVALS).fetchall()
    plans = conn.execute("SELECT run_id, plan_hash, plan FROM pgrunbook.approval").fetchall()
    return Evidence(
        events=tuple(events.broken_links(conn)),
        approvals=tuple((a["run"], a["scope"]) for a in approvals),
        plans=tuple(
            (p["run_id"], p["plan_hash"]) for p in plans if plan_hash(p["plan"]) != p["plan_hash"]
        ),
        reports=reports,
        states=tuple(integrity.states(conn)),
        journals=integrity.compare(conn),
    )


def _reports(conn: Connection, found: Iterable[Mapping[str, Any]]) -> Iterator[AlteredReport]:
    server = catalog.inspect_server(conn)
    here = (server.system_identifier, server.database)
    for report in found:
        if (report["system_identifier"], report["database"]) == here:
            yield from _altered(conn, report)


def _altered(conn: Connection, report: Mapping[str, Any]) -> Iterator[AlteredReport]:
    path, seen = report["path"], report["events"]
    if not report["intact"]:
        yield AlteredReport(path, CHANGED)
    elif not seen:
        return
    elif not schema.exists(conn) or not _is(conn, _HEAD, seen, report["head"]):
        yield AlteredReport(path, EVENTS_GONE, seen)
    elif not _is(conn, _RECORDED, report["run_id"], report["sha256"]):
        yield AlteredReport(path, UNRECORDED)


def _is(conn: Connection, query: str, *parameters: Any) -> bool:
    row = conn.execute(query, parameters).fetchone()
    return row is not None and bool(row["there"])
