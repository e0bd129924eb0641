# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step that changes the schema returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..catalog import TableInfo
from ..core.spec import Table


def schema_change(
    table: Table, part: str, before: TableInfo, after: dict[str, Any], queries: list[str]
) -> dict[str, Any]:
    """The result of a step that changes "columns" or "indexes": changed, queries, the schema
    afterwards, and the diff of that part."""
    return {
        "changed": bool(queries),
        "queries": queries,
        "schema": after,
        "diff": {
            "before_header": f"{part} of {table}",
            "after_header": f"{part} of {table}",
            "before": _listing(before.schema()[part]),
            "after": _listing(after[part]),
        },
    }


def _listing(entries: Mapping[str, str]) -> str:
    return "".join(f"{name}: {entry}\n" for name, entry in entries.items())
