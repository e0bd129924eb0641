# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows before and after, as a person reads them."""

from __future__ import annotations

from typing import Any

from ..core import printable


def sample_text(rows: list[dict[str, Any]]) -> str:
    """Rows before (-) and after (+), in pairs."""
    lines = []
    for row in rows:
        key = ", ".join(printable.line(part) for part in row["key"])
        lines += [f"- {key}: {_values(row['before'])}", f"+ {key}: {_values(row['after'])}"]
    return "\n".join(lines)


def _values(values: dict[str, Any]) -> str:
    return " ".join(
        f"{printable.line(k)}={'NULL' if v is None else printable.line(v)}"
        for k, v in values.items()
    )
