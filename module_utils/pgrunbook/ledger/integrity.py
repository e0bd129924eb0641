# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what a rollback and status.yml go by as the events have it: the journal of a run, its schema
changes, and how it ended?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..core.connection import Connection, rows_as
from . import journal, schema
from .changes import INDEX_ATTACHED, INDEX_KEPT, INDEX_PART, INDEX_TRIAL
from .forgotten import DROPPED
from .journal import MERGED, AlteredChange, Finding, Findings
from .taken_back import merged_wrongly

# The schema changes of runs that stand according to their table, and those that do so according to
# the events, in one snapshot. An index that was tried and kept is no trial any more.
_CHANGES = """
SELECT DISTINCT false AS told, run_id AS run, kind, old, new FROM pgrunbook.change
WHERE undone_at IS NULL AND kind <> ALL (%(parts)s) AND (%(run)s::text IS NULL OR run_id = %(run)s)
UNION ALL
SELECT true, run, kind, old, new FROM (
    SELECT DISTINCT ON (run, c.kind, old, new) run, c.kind, old, new, stands
    FROM (SELECT id, body ->> 'run' AS run, body ->> 'kind' AS event,
                 body #>> '{detail,old}' AS old, body #>> '{detail,new}' AS new
          FROM pgrunbook.event WHERE body -> 'detail' ?& ARRAY['old', 'new']) e,
         LATERAL (SELECT regexp_replace(event, '_(undone|left)$', '') AS kind,
                         event !~ '_(undone|left)$' AS stands
                  UNION ALL SELECT %(trial)s, false WHERE event = %(kept)s) c
    WHERE %(run)s::text IS NULL OR run = %(run)s
    ORDER BY run, c.kind, old, new, id DESC) latest
WHERE stands AND EXISTS (SELECT FROM pgrunbook.run WHERE id = run)
"""

_ENDED = "('finished', 'failed', 'reverted')"
_STATES = f"""
SELECT r.id AS run, r.state, coalesce(r.verdict, 'none') AS verdict,
       CASE WHEN s.kind = 'approved' THEN 'running' ELSE s.kind END AS state_told,
       coalesce(v.verdict, 'none') AS verdict_told
FROM pgrunbook.run r
LEFT JOIN LATERAL (
    SELECT body ->> 'kind' AS kind FROM pgrunbook.event
    WHERE body ->> 'run' = r.id AND (body ->> 'kind' IN {_ENDED}
        OR body ->> 'kind' = 'approved' AND body #>> '{{detail,scope}}' <> 'backfill')
    ORDER BY id DESC LIMIT 1) s ON true
LEFT JOIN LATERAL (
    SELECT body #>> '{{detail,verdict}}' AS verdict FROM pgrunbook.event
    WHERE body ->> 'run' = r.id AND body ->> 'kind' IN {_ENDED}
    ORDER BY id DESC LIMIT 1) v ON true
WHERE s.kind IS NOT NULL ORDER BY r.started_at DESC
"""

# An entry of the journal has the key's values and those of the phase's columns. Of a journal that
# is being forgotten the rest may follow from what was dropped.
_MERGED = f"""
SELECT b.run_id AS run, jsonb_array_length(a.plan #> '{{spec,key}}') AS key,
       jsonb_array_length(a.plan #> '{{spec,columns}}') AS columns
FROM (SELECT DISTINCT run_id FROM pgrunbook.batch
      WHERE merged IS NOT NULL AND (%(run)s::text IS NULL OR run_id = %(run)s)
        AND NOT EXISTS (SELECT FROM pgrunbook.event e WHERE e.body ->> 'run' = run_id
                        AND e.body ->> 'kind' = '{DROPPED}')) b,
     LATERAL (SELECT plan FROM pgrunbook.approval
              WHERE run_id = b.run_id AND scope = 'plan' ORDER BY id DESC LIMIT 1) a
ORDER BY 1
"""


@dataclass(frozen=True)
class _Stands:
    """A schema change of a run that stands: according to the events, if told, or to its table."""

    told: bool
    run: str
    kind: str
    old: str
    new: str


@dataclass(frozen=True)
class _State:
    """State and verdict of a run in its row, and as the events have them."""

    run: str
    state: str
    verdict: str
    state_told: str
    verdict_told: str


@dataclass(frozen=True)
class AlteredState:
    """The state, or the verdict, of a run in its row, where the events have another one."""

    run: str
    what: str
    here: str
    told: str


@dataclass(frozen=True)
class _Merged:
    """A run whose rollback merged entries of the journal, and how many columns these have."""

    run: str
    key: int
    columns: int


def compare(conn: Connection, run_id: str | None = None) -> Findings:
    """The journal and the schema changes of a run, or of each, against the events. Only reads, but
    every entry of the journal."""
    found = journal.compare(conn, run_id)
    merged, changes = _merged(conn, run_id), _changes(conn, run_id)
    return replace(found, altered=(*found.altered, *merged, *changes))


def states(conn: Connection) -> Iterator[AlteredState]:
    """The runs whose state or verdict is not the one in the events."""
    for run in rows_as(conn, _State, _STATES):
        if run.state != run.state_told:
            yield AlteredState(run.run, "state", run.state, run.state_told)
        if run.verdict != run.verdict_told:
            yield AlteredState(run.run, "verdict", run.verdict, run.verdict_told)


def _merged(conn: Connection, run_id: str | None) -> Iterator[Finding]:
    if schema.version(conn) < 2:
        return
    for run in rows_as(conn, _Merged, _MERGED, {"run": run_id}):
        batches = merged_wrongly(conn, run.run, run.key, run.columns)
        if batches:
            yield Finding(run.run, MERGED, batches)


def _changes(conn: Connection, run_id: str | None) -> Iterator[AlteredChange]:
    given = {
        "run": run_id,
        "parts": [INDEX_PART, INDEX_ATTACHED],
        "trial": INDEX_TRIAL,
        "kept": INDEX_KEPT,
    }
    found = rows_as(conn, _Stands, _CHANGES, given)
    told = {change for change in found if change.told}
    there = {_as_told(conn, change): change for change in found if not change.told}
    for change in sorted(told - set(there), key=str):
        yield _altered(change, told=True)
    for as_told, change in there.items():
        if as_told not in told:
            yield _altered(change, told=False)


def _altered(change: _Stands, *, told: bool) -> AlteredChange:
    return AlteredChange(change.run, change.kind, change.old, change.new, told)


def _as_told(conn: Connection, change: _Stands) -> _Stands:
    """A change as its event has it: where the database has not every character, with the escapes of
    JSON as text."""
    if conn.info.parameter_status("server_encoding") == "UTF8":
        return replace(change, told=True)
    old, new = (
        json.loads(json.dumps(name).replace("\\u", "\\\\u")) for name in (change.old, change.new)
    )
    return replace(change, told=True, old=old, new=new)
