# SPDX-License-Identifier: GPL-3.0-or-later
"""What another session does between two batches of a slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.backfill import batch


def before_batch(
    monkeypatch: pytest.MonkeyPatch, due: Callable[[int], bool], work: Callable[[], object]
) -> None:
    """Have work() done before each batch that is due, which are counted from 1 from here on."""
    fill, begun = batch.fill, [0]

    def filling(*arguments: Any) -> batch.BatchResult:
        begun[0] += 1
        if due(begun[0]):
            work()
        return fill(*arguments)

    monkeypatch.setattr(batch, "fill", filling)
