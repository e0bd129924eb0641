# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the journal as it was written? The events say how many batches and rows there are, and have
their SHA-256, each for those since the one before.

A batch is covered by the event of the slice that wrote it, or where that was broken off by the next
one of the run, at the latest by the one with which the run ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg.sql import SQL, Literal

from ..core.connection import Connection, one
from . import forgotten

# What the rollback adds to a batch is left out.
_FINGERPRINT = """
SELECT count(*)::int8 AS batches, coalesce(sum(row_count), 0)::int8 AS rows,
       coalesce(max(id), {after}) AS upto,
       encode(sha256(convert_to(coalesce(string_agg(hash, '' ORDER BY id), ''), 'UTF8')), 'hex')
         AS sha256
FROM (SELECT id, row_count, encode(sha256(convert_to(id || ' ' || row_count || ' ' || journal::text,
                                                     'UTF8')), 'hex') AS hash
      FROM pgrunbook.batch WHERE run_id = {run} AND id > {after} AND id <= {upto}) b
"""

_LAST_ID = 2**63 - 1

_LAST = """
SELECT coalesce(max((body #>> '{detail,journal,upto}')::int8), 0) AS after
FROM pgrunbook.event WHERE body ->> 'run' = %s
"""

_STANDING = """
SELECT coalesce(sum(row_count), 0)::int8 AS standing
FROM pgrunbook.batch WHERE run_id = %s AND reverted_at IS NULL
"""

_COVERED = """
SELECT c.run, c.event, c.kind, c.standing, c.rows, c.upto, c.sha256, f.sha256 AS sha256_found
FROM (SELECT id AS event, body ->> 'run' AS run, body ->> 'kind' AS kind, j.*
      FROM pgrunbook.event, jsonb_extract_path(body, 'detail', 'journal') d,
           jsonb_to_record(d) AS j (after int8, upto int8, rows int8, standing int8, sha256 text)
      WHERE d IS NOT NULL AND ({{run}}::text IS NULL OR body ->> 'run' = {{run}})) c,
     LATERAL ({}) f
""".format(_FINGERPRINT.format(run="c.run", after="c.after", upto="c.upto"))

# What a part of a journal is once its entries were dropped on purpose.
_DROPPED = """
SELECT g.run, g.upto, g.rows, g.sha256_left, f.sha256 AS sha256_found
FROM (SELECT body ->> 'run' AS run, d.*
      FROM pgrunbook.event, jsonb_extract_path(body, 'detail') detail,
           jsonb_to_record(detail) AS d (after int8, upto int8, rows int8, sha256_left text)
      WHERE body ->> 'kind' = '{kind}' AND ({{run}}::text IS NULL OR body ->> 'run' = {{run}})) g,
     LATERAL ({found}) f
""".format(
    kind=forgotten.DROPPED,
    found=_FINGERPRINT.format(run="g.run", after="g.after", upto="g.upto"),
)

_RUNS = """
SELECT r.id AS run, r.started_at, count(b.id)::int8 AS batches,
       coalesce(sum(b.row_count), 0)::int8 AS rows,
       coalesce(sum(b.row_count) FILTER (WHERE b.reverted_at IS NULL), 0)::int8 AS standing,
       coalesce(sum(b.row_count) FILTER (WHERE b.id > c.upto), 0)::int8 AS uncovered,
       coalesce(sum(b.row_count) FILTER (WHERE b.id > c.upto AND b.reverted_at IS NULL), 0)::int8
         AS uncovered_standing,
       (SELECT (e.body -> 'detail' ->> 'rows_done')::int8 FROM pgrunbook.event e
        WHERE e.body ->> 'run' = r.id AND e.body ->> 'kind' = 'progress'
        ORDER BY e.id DESC LIMIT 1) AS rows_told,
       coalesce((SELECT max(e.id) FROM pgrunbook.event e WHERE e.body ->> 'run' = r.id
                 AND e.body ->> 'kind' = 'approved'
                 AND e.body -> 'detail' ->> 'scope' = 'rollback'), 0) AS rollback
FROM pgrunbook.run r LEFT JOIN pgrunbook.batch b ON b.run_id = r.id,
     LATERAL (SELECT coalesce(max((e.body #>> '{{detail,journal,upto}}')::int8), 0) AS upto
              FROM pgrunbook.event e WHERE e.body ->> 'run' = r.id) c
WHERE {run}::text IS NULL OR r.id = {run}
GROUP BY r.id, c.upto
"""

# In one snapshot: a run may be at work.
_FOUND = SQL(
    f"""
SELECT (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY event), '[]')
        FROM ({_COVERED}) c) AS covered,
       (SELECT coalesce(jsonb_agg(to_jsonb(d) ORDER BY upto), '[]')
        FROM ({_DROPPED}) d) AS dropped,
       (SELECT coalesce(jsonb_agg(to_jsonb(r) - 'started_at' ORDER BY started_at DESC), '[]')
        FROM ({_RUNS}) r) AS runs,
       (SELECT coalesce(jsonb_agg(DISTINCT body ->> 'run'), '[]') FROM pgrunbook.event
        WHERE body ->> 'kind' = '{forgotten.FORGOTTEN}') AS whole
"""
)


MISSING, MORE, DIFFERS = "missing", "more", "differs"
COUNTED_AGAIN, COUNTED_BACK = "not given back", "given back"
GONE, UNHASHED, UNCOVERED = "gone", "unhashed", "uncovered"
MERGED = "merged"
FORGOTTEN, FORGETTING = "forgotten", "forgetting"


@dataclass(frozen=True)
class Finding:
    """What was found of a run's journal, as one of the words above: rows that are missing, or are
    more than the events name; events whose hash differs; rows that count as not given back, or as
    given back, although no rollback did that; a journal of which nothing is left; one that no event
    has a hash of; rows that no event covers yet; batches whose merged entries do not follow from
    the journal; rows whose entries were dropped on purpose, all of them or not. count is how many
    rows, or events, and of how many it is compared with."""

    run: str
    what: str
    count: int = 0
    of: int = 0


@dataclass(frozen=True)
class AlteredChange:
    """A schema change of a run that is in the events and not among the ledger's changes, or with
    told false the other way round."""

    run: str
    kind: str
    old: str
    new: str
    told: bool


@dataclass(frozen=True)
class Findings:
    """What became of journals and schema changes: altered is what differs from the events, unknown
    what the events cannot tell, gone the journals of which nothing is left, forgotten those that
    were dropped on purpose."""

    altered: tuple[Finding | AlteredChange, ...] = ()
    unknown: tuple[Finding, ...] = ()
    gone: tuple[Finding, ...] = ()
    forgotten: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Fingerprint:
    """How many batches and rows there are, up to which id, and the SHA-256 of their entries."""

    batches: int
    rows: int
    upto: int
    sha256: str


@dataclass(frozen=True)
class Cover:
    """What an event tells of the run's journal: the batches with an id above after, up to upto; how
    many batches and rows these are, and their SHA-256; and standing, how many rows of all batches
    were not taken back."""

    after: int
    batches: int
    rows: int
    upto: int
    sha256: str
    standing: int


@dataclass(frozen=True)
class _Covered:
    """What an event told of a run's journal, and the SHA-256 of the same batches now."""

    run: str
    event: int
    kind: str
    standing: int
    rows: int
    upto: int
    sha256: str
    sha256_found: str


@dataclass(frozen=True)
class _Dropped:
    """A part of a run's journal whose entries were dropped on purpose: up to which id, of how many
    rows, and the SHA-256 of what was left of its batches, then and now."""

    run: str
    upto: int
    rows: int
    sha256_left: str
    sha256_found: str


@dataclass(frozen=True)
class _Journal:
    """The journal of a run as it is now. uncovered rows are in no event yet. rows_told is how many
    the latest slice told of, rollback the latest event that approved one, 0 where there is none."""

    run: str
    batches: int
    rows: int
    standing: int
    uncovered: int
    uncovered_standing: int
    rows_told: int | None
    rollback: int


def cover(conn: Connection, run_id: str) -> Cover:
    """What an event has to tell of the run's journal now."""
    after = one(conn, _LAST, (run_id,))["after"]
    found = fingerprint(conn, run_id, after=after)
    return Cover(after=after, **vars(found), **one(conn, _STANDING, (run_id,)))


def fingerprint(conn: Connection, run_id: str, *, after: int, upto: int = _LAST_ID) -> Fingerprint:
    """What a run's batches with an id above after, up to upto, hold now. Reads every entry."""
    query = SQL(_FINGERPRINT).format(run=Literal(run_id), after=Literal(after), upto=Literal(upto))
    return Fingerprint(**one(conn, query, ()))


def compare(conn: Connection, run_id: str | None = None) -> Findings:
    """The journal of a run, or of each, against its events. Only reads, but every entry."""
    found = one(conn, _FOUND.format(run=Literal(run_id)), ())
    covered = [_Covered(**row) for row in found["covered"]]
    dropped = [_Dropped(**row) for row in found["dropped"]]
    runs = [_Journal(**row) for row in found["runs"]]
    parts = {run.run: [d for d in dropped if d.run == run.run] for run in runs}
    gone = [r for r in runs if not r.batches and not parts[r.run] and _told(r, covered)]
    left = [run for run in runs if run not in gone]
    return Findings(
        altered=tuple(f for r in left for f in _altered(r, _of(r, covered), parts[r.run])),
        unknown=tuple(f for r in left if not parts[r.run] for f in _unknown(r, _of(r, covered))),
        gone=tuple(Finding(run.run, GONE, of=_told(run, covered)) for run in gone),
        forgotten=tuple(_forgotten(r, parts[r.run], found["whole"]) for r in left if parts[r.run]),
    )


def _of(run: _Journal, covered: Sequence[_Covered]) -> list[_Covered]:
    return [c for c in covered if c.run == run.run]


def _told(run: _Journal, covered: Sequence[_Covered]) -> int:
    """How many rows the events name."""
    if ours := _of(run, covered):
        return sum(c.rows for c in ours)
    return 0 if run.rollback else run.rows_told or 0


def _forgotten(run: _Journal, dropped: Sequence[_Dropped], whole: Sequence[str]) -> Finding:
    what = FORGOTTEN if run.run in whole else FORGETTING
    return Finding(run.run, what, sum(d.rows for d in dropped), run.rows)


def _altered(
    run: _Journal, covered: Sequence[_Covered], dropped: Sequence[_Dropped]
) -> Iterator[Finding]:
    """What differs from the events. An event whose part was dropped is compared by its rows, and
    what is left of the part with what was left of it then."""
    told, found = sum(c.rows for c in covered), run.rows - run.uncovered
    if not covered:
        told, found = _told(run, ()), run.rows
    upto = max((d.upto for d in dropped), default=0)
    there = [c for c in covered if c.upto > upto]
    changed = sum(c.sha256 != c.sha256_found for c in there)
    changed += sum(d.sha256_left != d.sha256_found for d in dropped)
    if found < told:
        yield Finding(run.run, MISSING, told - found, told)
    elif covered and found > told:
        yield Finding(run.run, MORE, found - told, told)
    elif changed:
        yield Finding(run.run, DIFFERS, changed, len(there) + len(dropped))
    elif covered:
        yield from _taken_back(run, covered[-1])


def _taken_back(run: _Journal, last: _Covered) -> Iterator[Finding]:
    """Batches that count as taken back, or no longer do, although no rollback did that."""
    standing = run.standing - run.uncovered_standing
    at_work = run.rollback > last.event or (run.rollback and last.kind == "progress")
    if standing > last.standing:
        yield Finding(run.run, COUNTED_AGAIN, standing - last.standing)
    if standing < last.standing and not at_work:
        yield Finding(run.run, COUNTED_BACK, last.standing - standing)


def _unknown(run: _Journal, covered: Sequence[_Covered]) -> Iterator[Finding]:
    if run.batches and not covered:
        yield Finding(run.run, UNHASHED)
    elif run.uncovered:
        yield Finding(run.run, UNCOVERED, run.uncovered)
