# SPDX-License-Identifier: GPL-3.0-or-later
"""A small run up to where somebody disturbs it, and what another session does between two batches
of a slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.backfill import batch
from tests.integration.small_table import Table
from tests.integration.steps import Steps

SMALL = {"batch_rows": 20, "canary_rows": 60, "strategy": "ranges"}
KEYED = Table(rows=600, spec=SMALL)


def canary_filled(steps: Steps) -> str:
    """A run whose canary is filled; its id."""
    steps.begin()
    steps.backfill(canary=True)
    run: str = steps.planned["run"]["id"]
    return run


def rollback_approved(steps: Steps) -> None:
    """A run that was broken off, and whose rollback may begin."""
    steps.do("run", state="failed")
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")


def before_batch(
    monkeypatch: pytest.MonkeyPatch, due: Callable[[int], bool], work: Callable[[], object]
) -> None:
    """Have work() done before each batch that is due, which are counted from 1 from here on."""
    fill, begun = batch.fill, [0]

    def filling(*arguments: Any, **named: Any) -> batch.BatchResult:
        begun[0] += 1
        if due(begun[0]):
            work()
        return fill(*arguments, **named)

    monkeypatch.setattr(batch, "fill", filling)
