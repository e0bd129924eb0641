# SPDX-License-Identifier: GPL-3.0-or-later
"""How alike two names are: of a column and the one that could fill it, of a column and the key that
it could refer to. The numbers only put pairs in an order, from 0 to 1."""

from __future__ import annotations

import re

from ..drift.renames import NEAR, nearness

LIKELY = 0.7
"""From here on two names count as a pair. The unit tests have pairs on both sides."""

GENERIC = frozenset(
    (
        *("at", "by", "code", "count", "created", "date", "deleted", "description", "id", "key"),
        *("kind", "label", "modified", "name", "no", "number", "on", "state", "status", "text"),
        *("time", "timestamp", "title", "type", "updated", "uuid", "value", "version"),
    )
)
"""Words that name a column of any table."""


def words(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case and in the singular: snapshot_ip_types and snapshotIpType
    have the same."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return tuple(_singular(w) for w in re.split(r"[\W_]+", parted.casefold()) if w)


def fills(ours: str, theirs: str) -> float:
    """How much a column of the source looks as if it filled one of the table."""
    a, b = words(ours), words(theirs)
    if not a or not b or _digits(ours) != _digits(theirs):
        return 0.0
    same = _shared_end(a, b)
    if a == b:
        return 0.75 if GENERIC.issuperset(a) else 1.0
    if same == len(b):  # the table's has a prefix besides
        return 0.8 if GENERIC.issuperset(b) else 0.95
    if same and GENERIC.issuperset(a[len(a) - same :]):
        return 0.0
    if same == len(a):
        return 0.85
    if same:  # each has a prefix of its own
        return 0.75
    near = nearness(ours, theirs)
    return near * 0.9 if near >= NEAR else 0.0


def refers(ours: str, theirs: str, source: str) -> float:
    """How much a column of the table looks as if it referred to a key column of the source."""
    a, b, of = words(ours), words(theirs), words(source)
    if not a or not b:
        return 0.0
    if a == (*of, *b):
        return 0.95
    if a == b:
        return 0.75 if GENERIC.issuperset(a) else 0.95
    if a[-len(b) :] == b and not GENERIC.issuperset(b):
        return 0.85
    if a[-len(of) - len(b) :] == (*of, *b) or a == of:
        return 0.8
    near = nearness(ours, theirs)
    return near * 0.9 if near >= NEAR else 0.0


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3
    return word[:-1] if plural else word


def _shared_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """How many of their last words two names share."""
    shared = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _digits(name: str) -> list[str]:
    return re.findall(r"\d+", name)
