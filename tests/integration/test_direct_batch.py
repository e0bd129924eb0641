# SPDX-License-Identifier: GPL-3.0-or-later
"""A direct batch fills rows without locking them first, and takes nothing from anybody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible.module_utils.pgrunbook.backfill import batch
from tests.integration.conftest import Database
from tests.integration.small_table import Table
from tests.integration.steps import Module, Steps
from tests.integration.test_kill import until

SPEC = {"strategy": "ranges", "canary_rows": 20, "batch_rows": 1000}
SMALL = Table(rows=400, options="WITH (fillfactor = 50)", spec=SPEC)
