# SPDX-License-Identifier: GPL-3.0-or-later
"""The expression that makes a value of one column one of another type, where it is sure."""

from __future__ import annotations

from dataclasses import dataclass

from .seen import SeenColumn

INTEGERS = ("smallint", "integer", "bigint")
STRINGS = ("text", "character varying", "character")
_ONE_SPELLING = (*INTEGERS, "uuid", "boolean")
"""Types whose values have one spelling as text, whatever the session's settings."""
_OF_A_ZONE = ("timestamp with time zone", "time with time zone")


@dataclass(frozen=True)
class Expression:
    """An SQL expression on the source, empty where none is sure; loses is what a person should know
    of it, empty where values stay as they are."""

    sql: str
    loses: str = ""


def expression(
    theirs: SeenColumn, type_: str, base: str, oid: int, casts: frozenset[tuple[int, int]]
) -> Expression:
    """What makes a value of the source's column one of a type. Strings and integers of other sizes
    are left as they are: a dry run counts the values that do not fit, a cast would cut them."""
    same = theirs.type == type_
    if same or (theirs.base == base and base not in ("numeric", *_OF_A_ZONE)):
        return Expression(theirs.quoted)
    if {theirs.base, base} <= set(STRINGS) or {theirs.base, base} <= set(INTEGERS):
        return Expression(theirs.quoted)
    if theirs.base == base:
        return Expression(theirs.quoted, f"values of {theirs.type} are rounded to {type_}")
    if base in STRINGS[:2] and theirs.base in _ONE_SPELLING:
        return Expression(f"{theirs.quoted}::text")
    if (theirs.oid, oid) in casts and base not in _OF_A_ZONE:
        return Expression(theirs.quoted)
    return Expression("", f"{theirs.quoted} is {theirs.type}, and the column is {type_}")


def are_comparable(one: SeenColumn, other: SeenColumn) -> bool:
    """Whether two columns can be the two sides of a key."""
    both = {one.base, other.base}
    return len(both) == 1 or both <= set(STRINGS) or both <= set(INTEGERS)
