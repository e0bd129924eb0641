# SPDX-License-Identifier: GPL-3.0-or-later
"""What the backfill does to everybody else: sampled once a second, and compared with thresholds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.connection import Connection, one
from ..core.spec import Spec

MB = 1_000_000
UNKNOWN_SECONDS = 1.0  # for how long a standby's query is taken to hold back the horizon


def _segment(column: str) -> str:
    """The number of the WAL segment that a file of that name holds, as SQL: the name is timeline,
    high and low half, eight hexadecimal digits each (XLogFileName() in xlog_internal.h)."""
    return (
        f"(('x' || substr({column}, 9, 8))::bit(32)::int8 * (4294967296 / segment_size)"
        f" + ('x' || substr({column}, 17, 8))::bit(32)::int8)"
    )


_SAMPLE = f"""
SELECT
  (SELECT max(CASE WHEN r.state IS NULL THEN NULL
                   WHEN r.replay_lsn >= pg_current_wal_lsn() THEN 0
                   ELSE coalesce(extract(epoch FROM r.replay_lag), 0) END)::float8
   FROM pg_stat_replication r WHERE r.application_name <> 'pg_basebackup') AS replay_lag,
  (SELECT count(DISTINCT w.pid) FROM pg_locks w
   WHERE NOT w.granted AND NOT w.pid = ANY (%(ours)s)
   AND pg_blocking_pids(w.pid) && %(ours)s::int[]) AS waiters,
  (SELECT count(*) FROM pg_stat_activity a
   WHERE a.state = 'active' AND a.backend_type = 'client backend'
   AND NOT a.pid = ANY (%(ours)s)) AS active,
  coalesce((
   SELECT greatest(segment_size * (pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::int8
                                   / segment_size - first_left), 0)
   FROM (SELECT segment_size, CASE WHEN done IS NOT NULL THEN {_segment("done")} + 1
                                   ELSE {_segment("failed")} END AS first_left
         FROM (SELECT pg_size_bytes(current_setting('wal_segment_size')) AS segment_size,
                      substring(last_archived_wal FROM '^[0-9A-F]{{24}}') AS done,
                      substring(last_failed_wal FROM '^[0-9A-F]{{24}}') AS failed
               FROM pg_stat_archiver WHERE current_setting('archive_mode') <> 'off') a) b
  ), 0)::int8 AS unarchived,
  pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8 AS wal_position
"""

_OLDEST = """
SELECT who, seconds FROM (
  SELECT format('pid %%s (%%s)', pid,
                concat_ws(', ', usename, nullif(application_name, ''), state)) AS who,
         extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
         greatest(age(backend_xmin), age(backend_xid)) AS age
  FROM pg_stat_activity a
  WHERE coalesce(backend_xmin, backend_xid) IS NOT NULL AND backend_type <> 'walsender'
  AND datname = current_database() AND NOT pid = ANY (%(ours)s)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
  UNION ALL
  SELECT format('prepared transaction %%L of %%s', gid, owner),
         extract(epoch FROM clock_timestamp() - prepared)::float8, age(transaction)
  FROM pg_prepared_xacts WHERE database = current_database()
  UNION ALL
  SELECT format('replication slot %%s', slot_name), 'infinity'::float8, age(xmin)
  FROM pg_replication_slots WHERE xmin IS NOT NULL AND NOT active
  UNION ALL
  SELECT format('standby %%s, through hot_standby_feedback', application_name), NULL,
         age(backend_xmin)
  FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
) holder WHERE coalesce(seconds, %(unknown)s) >= %(older)s
ORDER BY age DESC, seconds DESC NULLS LAST LIMIT 1
"""


@dataclass(frozen=True)
class Load:
    """One sample. replay_lag is that of the slowest standby in seconds, None where there is none
    or this role may not see it; unarchived is in bytes, wal_rate in bytes a second."""

    replay_lag: float | None
    waiters: int
    active: int
    unarchived: int
    wal_rate: float


class Sampler:
    """Samples the load through one connection; ours are the backends whose effect is measured."""

    def __init__(self, conn: Connection, ours: Sequence[int]) -> None:
        self._conn, self._ours = conn, list(ours)
        self._position, self._at = 0, 0.0

    def sample(self) -> Load:
        """The load now; the WAL rate is that since the last sample, 0 in the first."""
        row = one(self._conn, _SAMPLE, {"ours": self._ours})
        now = time.monotonic()
        written = row["wal_position"] - self._position
        rate = written / (now - self._at) if self._at else 0.0
        self._position, self._at = row["wal_position"], now
        return Load(row["replay_lag"], row["waiters"], row["active"], row["unarchived"], rate)


def horizon_holder(conn: Connection, ours: Sequence[int], older: float) -> str:
    """Who holds back the oldest-xmin horizon since at least that many seconds, and so keeps dead
    row versions from being pruned; empty where nobody is seen. A VACUUM has a snapshot, but is in
    nobody's way (ComputeXidHorizons() in src/backend/storage/ipc/procarray.c)."""
    given = {"ours": list(ours), "older": older, "unknown": UNKNOWN_SECONDS}
    row = conn.execute(_OLDEST, given).fetchone()
    if row is None:
        return ""
    known = row["seconds"] is not None and row["seconds"] != float("inf")
    return f"{row['who']}, for {row['seconds']:.0f} s" if known else str(row["who"])


def sees_all_transactions(conn: Connection) -> bool:
    """Whether this role may see what every session's transaction holds back, as a superuser and a
    member of pg_read_all_stats or pg_monitor may."""
    query = "SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS seen"
    return bool(one(conn, query)["seen"])


def reasons(spec: Spec, load: Load, active_before: int) -> dict[str, str]:
    """Why to throttle the backfill now: for every threshold that the load exceeds, by its
    name in the spec, a text with both figures.

    active_before is the number of active sessions when the run began.
    """
    more_active = load.active - active_before
    unarchived, rate = load.unarchived / MB, load.wal_rate / MB
    found = {
        "max_replay_lag_seconds": (
            load.replay_lag or 0.0,
            f"replica lag {load.replay_lag or 0:.1f} s > {spec.max_replay_lag_seconds:g} s",
        ),
        "max_lock_waiters": (
            load.waiters,
            f"{load.waiters} waiting for our locks > {spec.max_lock_waiters}",
        ),
        "max_active_sessions": (
            more_active,
            f"{more_active} more active sessions than at the start > {spec.max_active_sessions}",
        ),
        "max_unarchived_wal_mb": (
            unarchived,
            f"{unarchived:,.0f} MB of WAL not archived > {spec.max_unarchived_wal_mb:,} MB",
        ),
        "max_wal_mb_per_second": (
            rate,
            f"WAL {rate:,.0f} MB/s > {spec.max_wal_mb_per_second:,} MB/s",
        ),
    }
    return {name: text for name, (now, text) in found.items() if now > getattr(spec, name)}
