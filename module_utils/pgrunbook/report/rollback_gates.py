# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates of a rollback: were all rows given back, and is the schema as before the run?"""

from __future__ import annotations

from ..gates import Gate, registry
from ..gates.gate import judge
from .facts import Work
from .value import Schemas


def rollback_gates(listed: int, work: Work | None, schema: Schemas) -> list[Gate]:
    """Both gates; none of what did not run. listed is how many rows the journal has."""
    if work is None or work.rows_changed is None:
        return []
    given_back = judge(
        None,
        registry.GIVEN_BACK,
        target=f"the {listed:,} rows that the journal lists, but none that was changed since",
        measured=f"{work.rows_changed:,} given back; {_left(work)}",
        passed=not work.rows_left_alone and not work.columns_gone,
        evidence=list(work.left_alone),
    )
    if not schema.after:
        return [given_back]
    same = schema.before == schema.after
    as_before = judge(
        None,
        registry.SCHEMA_BEFORE,
        target="those that the run's first plan saw",
        measured="the same" if same else "others, see below",
        passed=same,
    )
    return [given_back, as_before]


def _left(work: Work) -> str:
    """What a rollback did not give back, and why, and which rows it could not be sure of."""
    others = work.rows_left_alone - work.rows_put_back
    parts = [f"{others:,} left alone in all, because somebody has changed or deleted them since"]
    if work.rows_put_back:
        parts.append(
            f"{work.rows_put_back:,} not given back, because a trigger has put a value back"
        )
    if work.rows_rewritten:
        parts.append(
            f"{work.rows_rewritten:,} of those given back had been rewritten by somebody since "
            "and still held the run's values"
        )
    if work.columns_gone:
        gone = ", ".join(work.columns_gone)
        parts.append(f"not given back, because renamed or dropped since: column {gone}")
    return "; ".join(parts)
