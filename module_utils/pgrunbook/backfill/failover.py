# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failover has cost: rows that the run had committed, and the new primary never received."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ledger
from ..core.connection import Connection
from ..core.server import Identity, server_identity
from ..core.values import read
from ..ledger import Progress


@dataclass
class Seen:
    """How many rows and batches of the run were seen to be committed and not given back; a mutable
    record, under the Slice's lock. rows is None before the first look, and began what it was at the
    first look of this call."""

    rows: int | None = None
    batches: int = 0
    began: int | None = None

    def count(self, rows: int, *, reverting: bool) -> None:
        """Count a batch that was committed, or with reverting one that was given back."""
        if self.rows is not None and rows:
            sign = -1 if reverting else 1
            self.rows += sign * rows
            self.batches += sign


@dataclass(frozen=True, kw_only=True)
class Lost:
    """What was committed, and is not there any more: rows and batches that are filled again, or of
    a rollback given back again."""

    rows_lost: int = 0
    batches_lost: int = 0


def note(
    conn: Connection, run: ledger.Run, seen: Seen, at: Progress, *, reverting: bool = False
) -> Lost:
    """Compare how far the run is with what was seen, and go by the former from now on. What was
    lost, and that the run is on another server now, is recorded as an event."""
    sign = -1 if reverting else 1
    lost = Lost()
    if seen.rows is not None:
        lost = Lost(
            rows_lost=max(sign * (seen.rows - at.rows), 0),
            batches_lost=max(sign * (seen.batches - at.batches), 0),
        )
    here, known = server_identity(conn), read(Identity, run.server)
    if lost.batches_lost or here.timeline > known.timeline != "":
        ledger.event(
            conn,
            run.id,
            "failover",
            rows_lost=lost.rows_lost,
            batches_lost=lost.batches_lost,
            was=_shown(known),
            now=_shown(here),
        )
    seen.rows, seen.batches = at.rows, at.batches
    seen.began = at.rows if seen.began is None else seen.began
    return lost


def _shown(server: Identity) -> str:
    return f"{server.address}:{server.port} on timeline {server.timeline}"
