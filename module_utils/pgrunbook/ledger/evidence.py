# SPDX-License-Identifier: GPL-3.0-or-later
"""Has somebody changed the ledger's events, an approval, a journal or a report since? Only reads.

Whoever may write to the ledger can make up a chain of events that holds. What they cannot do is
make up one that fits the reports, which are somewhere else: each has the head of the chain that it
saw, and the ledger has each report's SHA-256.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import catalog
from ..core.connection import Connection
from . import events, integrity, journal, schema
from .approvals import plan_hash

# An approval is in its own table, where the modules look it up, and in an event. An older version
# recorded less in both.
_APPROVALS = """
SELECT coalesce(a.run_id, e.run) AS run, coalesce(a.scope, e.detail ->> 'scope') AS scope
FROM (SELECT run_id, jsonb_build_object('scope', scope, 'plan_hash', plan_hash, 'by', approved_by,
             'origin', approved_from, 'method', method) || jsonb_strip_nulls(jsonb_build_object(
                 'claimed', to_jsonb(p) -> 'claimed',
                 'database_user', to_jsonb(p) -> 'database_user',
                 'controller_user', to_jsonb(p) -> 'controller_user',
                 'execution', to_jsonb(p) -> 'execution')) AS detail,
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


def altered(conn: Connection, found: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """What somebody has changed since it was written, and what of the journals is gone or cannot be
    known, a sentence each; found is what report_info.reports() gives. Reports on other databases
    are passed over."""
    journals = integrity.compare(conn) if schema.exists(conn) else journal.Findings()
    return [*_altered(conn, found), *journals.altered], [*journals.gone, *journals.unknown]


def _altered(conn: Connection, found: Iterable[Mapping[str, Any]]) -> list[str]:
    if not schema.exists(conn):
        broken, approvals, plans, states = [], [], [], []
    else:
        broken = events.broken_links(conn)
        approvals = conn.execute(_APPROVALS).fetchall()
        plans = conn.execute("SELECT run_id, plan_hash, plan FROM pgrunbook.approval").fetchall()
        states = list(integrity.states(conn))
    server = catalog.inspect_server(conn)
    here = (server.system_identifier, server.database)
    ours = [r for r in found if (r["system_identifier"], r["database"]) == here]
    return [
        *(f"Event {event} does not follow from the one before it." for event in broken),
        *(
            f"The approval {a['scope']} of run {a['run']} is not the one in the events."
            for a in approvals
        ),
        *(
            f"The plan that was approved for run {p['run_id']} no longer has the hash "
            f"{p['plan_hash'][:8]}."
            for p in plans
            if plan_hash(p["plan"]) != p["plan_hash"]
        ),
        *states,
        *(sentence for report in ours for sentence in _altered_report(conn, report)),
    ]


def _altered_report(conn: Connection, report: Mapping[str, Any]) -> list[str]:
    path = report["path"]
    if not report["intact"]:
        return [f"{path} was changed since it was written."]
    if not report["events"]:
        return []
    if not schema.exists(conn) or not _is(conn, _HEAD, report["events"], report["head"]):
        return [f"The ledger no longer has the {report['events']} events that {path} saw."]
    if not _is(conn, _RECORDED, report["run_id"], report["sha256"]):
        return [
            f"{path} is not the report that the ledger recorded, or was written while the database "
            "was out of reach."
        ]
    return []


def _is(conn: Connection, query: str, *parameters: Any) -> bool:
    row = conn.execute(query, parameters).fetchone()
    return row is not None and bool(row["there"])
