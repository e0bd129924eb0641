# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers are too old."""

from __future__ import annotations

import pytest

from ansible.module_utils.pgrunbook.connection import require_version
from ansible.module_utils.pgrunbook.errors import RunbookError


@pytest.mark.parametrize(("version", "named"), [(130023, "13"), (90624, "9")])
def test_old_server_is_refused(version: int, named: str) -> None:
    with pytest.raises(RunbookError, match=rf"PostgreSQL {named}; .*14 or newer.*Next step"):
        require_version(version)


@pytest.mark.parametrize("version", [140000, 170006, 180000])
def test_newer_server_is_not(version: int) -> None:
    require_version(version)
