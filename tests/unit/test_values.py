# SPDX-License-Identifier: GPL-3.0-or-later
"""Dataclasses as JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from ansible.module_utils.pgrunbook.core.values import plain, read


@dataclass(frozen=True)
class Part:
    name: str
    rows: int | None = None


@dataclass(frozen=True)
class Whole:
    title: str
    first: Part
    parts: tuple[Part, ...] = ()
    by_name: dict[str, Part] = field(default_factory=dict)
    other: Part | None = None


WHOLE = Whole("t", Part("a"), (Part("b", 1), Part("c")), {"d": Part("d")}, Part("e", 0))


def test_a_value_comes_back_from_json_as_it_was() -> None:
    assert read(Whole, json.loads(json.dumps(plain(WHOLE)))) == WHOLE


def test_a_field_that_is_not_there_has_its_default_and_other_keys_are_left_out() -> None:
    given = {"title": "t", "first": {"name": "a", "changed": False}, "invocation": {}}
    assert read(Whole, given) == Whole("t", Part("a"))


def test_a_field_without_a_default_has_to_be_there() -> None:
    with pytest.raises(KeyError, match="Part needs name"):
        read(Part, {"rows": 1})


@dataclass(frozen=True)
class Move:
    from_: str
    to: str


def test_a_key_that_is_a_word_of_python_has_an_underscore_in_the_class_only() -> None:
    assert plain(Move("a", "b")) == {"from": "a", "to": "b"}
    assert read(Move, {"from": "a", "to": "b"}) == Move("a", "b")
    with pytest.raises(KeyError, match="Move needs from"):
        read(Move, {"to": "b"})
