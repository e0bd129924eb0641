# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers are too old, and who may open a connection to one."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ansible.module_utils.pgrunbook.core import connection
from ansible.module_utils.pgrunbook.core.connection import require_version
from ansible.module_utils.pgrunbook.core.errors import RunbookError


@pytest.mark.parametrize(("version", "named"), [(130023, "13"), (90624, "9")])
def test_old_server_is_refused(version: int, named: str) -> None:
    with pytest.raises(RunbookError, match=rf"PostgreSQL {named}; .*14 or newer.*Next step"):
        require_version(version)


@pytest.mark.parametrize("version", [140000, 170006, 180000])
def test_newer_server_is_not(version: int) -> None:
    require_version(version)


def test_connections_are_opened_in_one_place() -> None:
    """There it is found out whether a pooler is in between, before anything is set."""
    root = Path(__file__).resolve().parents[2]
    programs = [
        p for part in ("module_utils", "library", "plugins") for p in root.glob(f"{part}/**/*.py")
    ]
    assert programs
    opening = [p.name for p in programs if "psycopg.connect(" in p.read_text(encoding="utf-8")]
    assert opening == ["connection.py"]


def test_of_several_hosts_the_reason_of_each_is_told() -> None:
    with pytest.raises(psycopg.OperationalError) as raised:
        psycopg.connect("host=/nowhere,/elsewhere port=1,2")
    told = connection._in_one_line(raised.value)
    first, second = told.split("; ")
    assert first.startswith('connection to server on socket "/nowhere/.s.PGSQL.1" failed: ')
    assert second.startswith('connection to server on socket "/elsewhere/.s.PGSQL.2" failed: ')
    assert "Is the server running" not in told and "Multiple" not in told
