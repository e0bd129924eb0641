# SPDX-License-Identifier: GPL-3.0-or-later
"""What is signed: a text that a person can read, with a line for each thing that they approve.

A value stands in one line whatever is in it, so that no name can forge a line. Text and values
follow from each other: a text that its own values do not give again is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from ..core import printable
from ..core.errors import RunbookError

HEADER = "pgrunbook approval, version 1"
AS_LISTED = "as the key is listed"
NO_END = "no end is set"
TIME = "%Y-%m-%dT%H:%M:%SZ"
NEVER = datetime.min.replace(tzinfo=UTC)
_WIDTH = 11  # of a label
_ROWS = " to fill (an estimate)"
_END = "ends at "
_SERVER = " (system identifier "
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SignedHost:
    """A database that a text approves a plan for. phase is the phase's name and title, window the
    end of the maintenance window, empty where there is none; rows are estimated."""

    phase: str
    host: str
    system_identifier: str
    plan_hash: str
    database: str
    table: str
    rows: int
    window: str = ""


@dataclass(frozen=True)
class Statement:
    """What a text says. hash is what is approved, of a single host its plan's. signer is the
    principal that the signer names, empty where the list of allowed signers is to tell it."""

    hash: str
    scope: str
    hosts: tuple[SignedHost, ...]
    signer: str = ""
    signed_at: datetime = NEVER
    expires_at: datetime = NEVER


def of_plan(host: str, plan: Mapping[str, Any], plan_hash: str, rows: int = 0) -> SignedHost:
    """What a text says of a plan, as the ledger holds it, for a host of the inventory."""
    spec, server = plan["spec"], plan["server"]
    return SignedHost(
        phase=f"{spec['phase']}: {spec['title']}" if spec["title"] else spec["phase"],
        host=host,
        system_identifier=server["system_identifier"],
        plan_hash=plan_hash,
        database=server["database"],
        table=f"{spec['schema']}.{spec['table']}",
        rows=rows,
        window=spec["window_end"],
    )


def text(of: Statement) -> str:
    """The text that is signed; each line ends with a line feed."""
    lines = [f"{label:{_WIDTH}}{printable.line(value)}" for label, value in _lines(of)]
    return "".join(f"{line}\n" for line in (HEADER, *lines))


def read(signed: str) -> Statement:
    """The values of a text. Raises RunbookError where it is not just what text() gives of them."""
    try:
        found = _read(signed)
        whole = text(found) == signed
    except (ValueError, IndexError):
        whole = False
    if not whole:
        raise RunbookError("its text is not one that scripts/approve writes")
    return found


def unlike(given: Statement, expected: Statement) -> str:
    """The first line of a text that is not as it should be, and how that is; empty where there is
    none. Who signed when, and estimates of rows, are not compared."""
    rows = [host.rows for host in given.hosts] + [0] * len(expected.hosts)
    wanted = replace(
        given,
        hash=expected.hash,
        scope=expected.scope,
        hosts=tuple(replace(h, rows=n) for h, n in zip(expected.hosts, rows, strict=False)),
    )
    for here, there in zip(text(given).split("\n"), text(wanted).split("\n"), strict=False):
        if here != there:
            return f"its line {_squeezed(here)!r} should be {_squeezed(there)!r}"
    return ""


def _squeezed(line: str) -> str:
    return " ".join(line.split()) or "the end"


def _lines(of: Statement) -> Iterator[tuple[str, str]]:
    yield "Plan", of.hash
    yield "Scope", of.scope
    for host in of.hosts:
        yield "Phase", host.phase
        yield "Host", f"{host.host}{_SERVER}{host.system_identifier})"
        if len(of.hosts) > 1:
            yield "Its plan", host.plan_hash
        yield "Database", host.database
        yield "Table", host.table
        yield "Rows", f"{host.rows:,}{_ROWS}"
        yield "Window", f"{_END}{host.window}" if host.window else NO_END
    yield "Signer", of.signer or AS_LISTED
    yield "Signed at", of.signed_at.strftime(TIME)
    yield "Expires", of.expires_at.strftime(TIME)


def _read(signed: str) -> Statement:
    lines = signed.split("\n")[1:-1]
    values = [line[_WIDTH:] for line in lines]
    (first, scope), (signer, signed_at, expires_at) = values[:2], values[-3:]
    blocks = [n for n, line in enumerate(lines) if line.startswith("Phase ")]
    ends = [*blocks[1:], len(lines) - 3]
    if not blocks or not _HASH.fullmatch(first):
        raise ValueError
    hosts = tuple(_host(values[begin:end], first) for begin, end in zip(blocks, ends, strict=True))
    return Statement(
        first,
        scope,
        hosts,
        "" if signer == AS_LISTED else signer,
        _time(signed_at),
        _time(expires_at),
    )


def _host(values: Sequence[str], of_all: str) -> SignedHost:
    phase, host, *plan, database, table, rows, window = values
    name, _, identifier = host.rpartition(_SERVER)
    return SignedHost(
        phase,
        name,
        identifier.removesuffix(")"),
        plan[0] if plan else of_all,
        database,
        table,
        int(rows.removesuffix(_ROWS).replace(",", "")),
        window.removeprefix(_END) if window != NO_END else "",
    )


def _time(of: str) -> datetime:
    return datetime.strptime(of, TIME).replace(tzinfo=UTC)
