# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns are probably only renamed: one that only the database has, and one that only the
models have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable

NEAR = 0.8
"""How alike two names of one column are: difflib's ratio, case and underscores apart. The unit
tests have pairs that people renamed (0.85 and more) and pairs of different things (0.78 and less).
"""


def renames(
    missing: Iterable[str], surplus: Iterable[str], alike: Callable[[str, str], bool]
) -> dict[str, str]:
    """Which surplus name is probably which missing one, as {surplus: missing}. The nearest pairs
    are taken first, and each name once. alike(missing, surplus) is asked for near pairs only."""
    others = list(surplus)
    near = sorted(
        (-nearness(new, old), new, old)
        for new in missing
        for old in others
        if nearness(new, old) >= NEAR
    )
    found: dict[str, str] = {}
    for _, new, old in near:
        if old not in found and new not in found.values() and alike(new, old):
            found[old] = new
    return found


def nearness(a: str, b: str) -> float:
    """How alike two names are, from 0 to 1. Names that number things differently are not."""
    if re.findall(r"\d+", a) != re.findall(r"\d+", b):
        return 0.0
    first, second = sorted(n.casefold().replace("_", "") for n in (a, b))
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()
