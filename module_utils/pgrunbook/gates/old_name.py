# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements that name a column as it was called before the phase, and the gate on them."""

from __future__ import annotations

from ..catalog import Counted, Statement, TableInfo, statements
from ..core import printable
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.values import plain
from . import registry
from .gate import Gate, judge

SHOWN, KEPT = 3, 50  # statements: in what was measured, and in the evidence

_FAIL_LATER = "from the rename on they fail"
_FAILED = (
    "PostgreSQL counts no statement that fails, so they are from before the rename, or what they "
    "name is something else"
)


def old_name(conn: Connection, spec: Spec, info: TableInfo) -> tuple[Gate, ...]:
    """The gate; none where the phase renames no column, or the database has no extension
    pg_stat_statements."""
    old = [column.renamed_from for column in spec.columns if column.renamed_from]
    counted = statements.naming(conn, spec.table.name, old) if old else None
    if counted is None:
        return ()
    renamed = not any(name in info.columns for name in old)
    return (
        judge(
            spec,
            registry.OLD_NAME,
            target=f"no statement names {' or '.join(map(printable.line, old))}",
            measured="; ".join(_measured(counted, conn.info.user, renamed=renamed)),
            passed=not counted.statements,
            evidence=_evidence(counted),
        ),
    )


def _measured(counted: Counted, role: str, *, renamed: bool) -> list[str]:
    """What was found, and what could not be seen."""
    if counted.unknown:
        return [f"not known: {counted.unknown}"]
    found, since = counted.statements, f", counted since {counted.since}" if counted.since else ""
    said = [f"{_number(len(found), 'statement') if found else 'none'}{since}"]
    said += [_one(statement) for statement in found[:SHOWN]]
    if len(found) > SHOWN:
        said.append(f"and {len(found) - SHOWN:,} more")
    if found:
        said.append(_FAILED if renamed else _FAIL_LATER)
    if counted.own:
        said.append(f"without {counted.own:,} of our own role {printable.line(role)}")
    if counted.unreadable:
        said.append(
            f"not seen: {counted.unreadable:,} of other roles, whose text needs pg_read_all_stats"
        )
    return said


def _number(of: int, noun: str) -> str:
    return f"{of:,} {noun}{'' if of == 1 else 's'}"


def _one(statement: Statement) -> str:
    since = f" since {statement.since}" if statement.since else ""
    return (
        f"{printable.line(statement.role)}, {_number(statement.calls, 'call')}{since}, "
        f"{statement.mean_ms:,g} ms each: {_text(statement)}"
    )


def _text(statement: Statement) -> str:
    return printable.statement(" ".join(statement.query.split()))


def _evidence(counted: Counted) -> dict[str, object]:
    kept = [{**plain(each), "query": _text(each)} for each in counted.statements[:KEPT]]
    return {**plain(counted), "statements": kept, "found": len(counted.statements)}
