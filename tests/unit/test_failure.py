# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person is told of a mistake of the program."""

from __future__ import annotations

import pytest

from ansible.module_utils.pgrunbook.core import failure

AS_SHIPPED = "/tmp/ansible_x_payload.zip/ansible/module_utils/pgrunbook"


@pytest.mark.parametrize(
    ("filename", "told"),
    [
        (f"{AS_SHIPPED}/ledger/approvals.py", "ledger/approvals.py"),
        ("/src/pgrunbook/module_utils/pgrunbook/module.py", "module.py"),
        ("/src/pgrunbook/.venv/lib/psycopg/cursor.py", "cursor.py"),
    ],
    ids=["as Ansible ships it", "a checkout of that name", "not of the program"],
)
def test_a_file_is_named_by_where_it_is_in_the_program(filename: str, told: str) -> None:
    assert failure._in_the_program(filename) == told


def test_a_mistake_is_placed_in_the_program_though_the_checkout_has_its_name() -> None:
    """The environment may be in the checkout, and its files are not the program's."""
    inner = compile("raise KeyError", "/src/pgrunbook/.venv/lib/psycopg/cursor.py", "exec")
    outer = compile("exec(inner)", f"{AS_SHIPPED}/ledger/runs.py", "exec")
    with pytest.raises(KeyError) as raised:
        exec(outer, {"inner": inner})
    assert "KeyError in ledger/runs.py, line 1." in failure.unforeseen(raised.value, writes=False)
