# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase as a ledger holds it: an older version of this program may have written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import RunbookError
from ..core.options import unknown
from ..core.phase import parse
from ..core.spec import THRESHOLDS, Spec

RENAMED = {
    **{f"most_{name.removeprefix('max_')}": name for name in THRESHOLDS},
    "proposed_indexes": "index_advice",
}
"""For each option that versions before 0.2.0 called otherwise, the name that it bears now."""


def todays_spec(stored: Mapping[str, Any]) -> Spec:
    """The phase of a stored plan. What an earlier version did not know has its default, which is
    what it did.

    Raises RunbookError where it has an option that this program does not know.
    """
    options = {RENAMED.get(name, name): value for name, value in stored.items()}
    not_known = unknown(options, Spec)
    if not_known:
        raise RunbookError(
            f"The phase in the ledger has {', '.join(not_known)}, which this pgrunbook does not "
            "know: a newer one wrote it. Nothing was changed. Next step: use the newer pgrunbook."
        )
    return parse(options)
