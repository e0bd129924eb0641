# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest phase that makes sense, and what stands for a table of the catalog."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

from ansible.module_utils.pgrunbook.catalog import ColumnInfo, Leaf, TableInfo
from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core import spec as spec_module
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.ledger import RunStatus

# A busy machine must not turn a property into a failure.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")

SMALLEST: dict[str, Any] = {
    "phase": "phase9",
    "table": "orders",
    "key": ["id"],
    "columns": [
        {"name": "region", "type": "text", "renamed_from": "regions", "source": "geo->>'region'"}
    ],
    "source_table": "customers",
    "source_key": {"customer": "id"},
}


RUN_AT_WORK = RunStatus(
    id="phase9-1",
    phase="phase9",
    table_name="public.orders",
    state="running",
    verdict=None,
    operator="alice",
    plan_hash="ab",
    rows_eligible=5678,
    started_at="2026-01-31 04:00:00+00",
    seen_at="2026-01-31 04:05:06+00",
    finished_at=None,
    control="",
    control_by="",
    rows_per_second=0,
    progress={},
    rows_changed=1234,
    rows_refused=0,
    claimed=None,
    playbook="playbooks/phase9.yml",
)


def options(**changes: Any) -> dict[str, Any]:
    """The option spec as a module gets it from Ansible: complete, defaults filled in."""
    defaults = {
        name: option["default"]
        for name, option in spec_module.SPEC_OPTIONS.items()
        if "default" in option
    }
    return {**defaults, **SMALLEST, **changes}


def parsed(**changes: Any) -> spec_module.Spec:
    return phase_module.parse(options(**changes))


def table_info(*columns: str) -> TableInfo:
    """A table of the catalog with these columns, all of them text."""
    return TableInfo(
        oid=1,
        owner="owner",
        owned=True,
        size=8192,
        pages=1,
        rows_estimate=10,
        partitioned=False,
        leaves=(Leaf(1, Table("public", "orders"), 1),),
        columns={c: ColumnInfo("text", 25, not_null=False, generated=False) for c in columns},
        indexes={},
    )
