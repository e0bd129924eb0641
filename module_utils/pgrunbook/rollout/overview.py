# SPDX-License-Identifier: GPL-3.0-or-later
"""How all hosts of an inventory stand, from what a playbook found on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .ended import AT_WORK, BREACHED, FAILED, NO_ANSWER, NO_RUN, OK, OPEN, REVERTED, Ended


def of_runs(host: str, runs: Sequence[Mapping[str, Any]], altered: Sequence[str]) -> Ended:
    """How the newest run of a host stands. runs and altered are as pgrunbook_run_info returns
    them."""
    told = [f"ALTERED {sentence}" for sentence in altered]
    if not runs:
        return Ended(host, NO_RUN, " ".join(told))
    newest = runs[0]
    if newest["state"] == "running":
        told = [*_at_work(newest), *told]
    state = {"running": AT_WORK, "failed": FAILED, "reverted": REVERTED}.get(newest["state"])
    return Ended(
        host,
        state or newest["verdict"] or OPEN,
        " ".join([f"Run {newest['id']}.", *told]),
        rows=newest["rows_changed"],
    )


def of_gates(host: str, judged: Mapping[str, Any]) -> Ended:
    """Whether the gates of a host hold. judged is as pgrunbook_post_run returns it."""
    missed = [check for check in judged["checks"] if check["id"] in judged["breached"]]
    why = "; ".join(
        f"{check['title']}: wanted {check['target']}, measured {check['measured']}"
        for check in missed
    )
    return Ended(host, BREACHED if missed else OK, why)


def no_answer(host: str, why: str) -> Ended:
    """A host on which the playbook found nothing."""
    return Ended(host, NO_ANSWER, why or "The playbook did not get so far.")


def _at_work(run: Mapping[str, Any]) -> list[str]:
    """The progress of a run, when it was seen last, and what it was told."""
    told = [f"{run['progress']['progress']};"] if run["progress"] else []
    told.append(f"last seen {run['seen_at']}.")
    if run["control"]:
        told.append(f"Told to {run['control']} by {run['control_by']}.")
    if run["rows_per_second"]:
        told.append(f"Kept below {run['rows_per_second']:,} rows/s.")
    return told
