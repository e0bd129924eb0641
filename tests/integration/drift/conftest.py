# SPDX-License-Identifier: GPL-3.0-or-later
"""How tests compare a database with models."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from ansible.module_utils.pgrunbook.core import spec
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.drift.compare import compare as compare_schema
from ansible.module_utils.pgrunbook.gates.schema_gate import schema_gate
from tests.integration.conftest import Database
from tests.integration.drift.shop import HEAD, MODELS, PHASE, Compare, Difference


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compare a database with models, Python on top of HEAD; none of it may change anything."""

    def run(database: Database, models: str = MODELS, phase: spec.Spec = PHASE) -> list[Difference]:
        path = tmp_path / "shop_models.py"
        path.write_text(HEAD + textwrap.dedent(models), encoding="utf-8")
        schemas = sorted({phase.table.schema, phase.source.schema})
        with connect(database.login, name="test", read_only=True, schemas=schemas) as conn:
            result = compare_schema(conn, phase, f"{path}:Base")
        gate = schema_gate(phase, result.differences)
        found: list[Difference] = plain(result.differences)
        breaking = [d["text"] for d in found if d["breaks"]]
        assert gate.status == ("fail" if breaking else "pass")
        assert gate.measured == ("; ".join(breaking) or "none")
        return found

    return run
