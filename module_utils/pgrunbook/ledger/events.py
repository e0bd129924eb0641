# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash-chained list of events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from psycopg.types.json import Jsonb

from ..core.connection import Connection, one
from ..core.version import VERSION

_ADD_EVENT = """
INSERT INTO pgrunbook.event (body, previous, hash)
SELECT b.body, p.hash, encode(sha256(convert_to(p.hash || b.body::text, 'UTF8')), 'hex')
FROM (SELECT jsonb_build_object('at', clock_timestamp(), 'run', %s::text, 'kind', %s::text,
                                'detail', %s::jsonb, 'version', %s::text) AS body) b,
     (SELECT coalesce((SELECT hash FROM pgrunbook.event ORDER BY id DESC LIMIT 1), '') AS hash) p
RETURNING body, hash
"""

_appended: WeakKeyDictionary[Connection, dict[str, Mapping[str, Any]]] = WeakKeyDictionary()
"""By their hashes, the events that each connection has appended and nobody has asked for yet."""

_BROKEN_LINKS = """
SELECT id FROM (
    SELECT id, body, previous, hash, coalesce(lag(hash) OVER (ORDER BY id), '') AS expected
    FROM pgrunbook.event) e
WHERE previous <> expected
   OR hash <> encode(sha256(convert_to(previous || body::text, 'UTF8')), 'hex')
ORDER BY id
"""


def event(conn: Connection, run_id: str, kind: str, **detail: Any) -> None:
    """Append an event to the chain: its hash covers its body and the hash before it."""
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('pgrunbook.event', 0))")
        added = one(conn, _ADD_EVENT, (run_id, kind, _storable(conn, detail), VERSION))
    _appended.setdefault(conn, {})[added["hash"]] = added["body"]


def appended(conn: Connection) -> list[Mapping[str, Any]]:
    """The events that were appended through this connection since the last call, as their bodies,
    in their order, without those that were rolled back. Where the connection is lost nobody knows,
    and they count as kept."""
    found = _appended.pop(conn, {})
    if not found or conn.closed or conn.broken:
        return list(found.values())
    rows = conn.execute("SELECT hash FROM pgrunbook.event WHERE hash = ANY (%s)", (list(found),))
    kept = {row["hash"] for row in rows}
    return [body for hash_, body in found.items() if hash_ in kept]


def _storable(conn: Connection, detail: dict[str, Any]) -> Jsonb:
    """The detail, with the escapes of JSON as text where the database has not every character."""
    if conn.info.parameter_status("server_encoding") == "UTF8":
        return Jsonb(detail)
    return Jsonb(detail, dumps=lambda given: json.dumps(given).replace("\\u", "\\\\u"))


def broken_links(conn: Connection) -> list[int]:
    """The ids of events that do not follow from the one before: changed, removed or inserted."""
    return [row["id"] for row in conn.execute(_BROKEN_LINKS)]
