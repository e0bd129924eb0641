# SPDX-License-Identifier: GPL-3.0-or-later
"""How the callback breaks lines: prose at words, and nothing that may be SQL."""

from __future__ import annotations

import pytest

from tests.plugins import plugin

CALLBACK = plugin("callback/pgrunbook")


def test_a_gate_is_wrapped_behind_its_label() -> None:
    first, *rest = CALLBACK._shown("PASS  " + "word " * 40)
    assert first.startswith("PASS  word") and rest and len(first) <= CALLBACK.WIDTH
    assert all(line.startswith("      word") for line in rest)


@pytest.mark.parametrize(
    "statement",
    [
        '         ALTER TABLE t RENAME COLUMN a TO b, "' + "a name  " * 20 + '"',
        'GRANT SELECT ON "' + "a name  " * 20 + '" TO r',
        "   undo  SELECT 'a  text " + "a  text " * 20 + "'",
    ],
)
def test_what_may_be_sql_is_left_in_one_piece(statement: str) -> None:
    assert CALLBACK._shown(statement) == [statement]
