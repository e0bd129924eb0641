# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot be seen is shown as an escape; everything else stays as it is."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.catalog.dependents import Dependent
from ansible.module_utils.pgrunbook.core import printable

UNSEEN = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, range(0x200B, 0x2010)),
    *map(chr, range(0x2028, 0x202F)),
    *map(chr, range(0x2060, 0x2065)),
    *map(chr, range(0x2066, 0x206A)),
    "\u061c",
    "\ufeff",
    "\u00ad",
    "\U000e0041",
    *map(chr, range(0xFE00, 0xFE10)),
    *"\u034f\u115f\u1160\u17b4\u180b\u180f\u2065\u2800\u3164\uffa0\ufff0\U000e0100",
]


@pytest.mark.parametrize(
    ("hostile", "seen"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("a\u200bb\u2028c", r"a\u200bb\u2028c"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("admin\u3164", r"admin\u3164"),
    ],
)
def test_what_cannot_be_seen_is_escaped(hostile: str, seen: str) -> None:
    assert printable.line(hostile) == seen


@pytest.mark.parametrize("plain", ["é", "日本　語", "a\u00a0b", r"\x1b", 'say "no"', "🙂", ""])
def test_what_can_be_seen_stays(plain: str) -> None:
    assert printable.line(plain) == printable.text(plain) == plain


def test_text_keeps_its_lines_and_tabs_alone() -> None:
    assert printable.text("a\n\tb\r\x0b\x85\u2028") == "a\n\tb" + r"\r\x0b\x85\u2028"


@pytest.mark.parametrize("char", UNSEEN, ids=lambda char: f"U+{ord(char):04X}")
def test_no_such_character_is_left(char: str) -> None:
    assert char not in printable.line(f"a{char}b")
    assert char not in printable.in_json(json.dumps(f"a{char}b", ensure_ascii=False))


@given(st.text())
def test_escaping_twice_is_escaping_once(text: str) -> None:
    once = printable.line(text)
    assert printable.line(once) == printable.text(once) == once
    assert not [c for c in once if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@given(st.text())
def test_json_means_the_same(text: str) -> None:
    document = printable.in_json(json.dumps({text: [text]}, ensure_ascii=False, indent=2))
    assert json.loads(document) == {text: [text]}


def test_every_text_in_a_value_is_escaped_and_nothing_else() -> None:
    value = {"a\x1b": ["b\x1b", ("c\x1b", 1, None, True)], "d": 1.5}
    assert printable.every(value) == {r"a\x1b": [r"b\x1b", [r"c\x1b", 1, None, True]], "d": 1.5}
    shown = printable.every(Dependent("c\x1b", "view", "v\u202e", follows=True))
    assert shown == Dependent(r"c\x1b", "view", r"v\u202e", follows=True)


@pytest.mark.parametrize(
    ("statement", "seen"),
    [
        ("SET a = 'x', b = 1.5e3, c = 0x1F, d = $1", "SET a = '…', b = ?, c = ?, d = $1"),
        ("SELECT 't2''s', t2.c3, \"d'4\" FROM é5 -- 's'", "SELECT '…', t2.c3, \"d'4\" FROM é5 …"),
        ("/* k='s' */ SELECT $q$'s'$$s$q$, $$s$$, E'a\\n', 5", "… SELECT '…', '…', E'…', ?"),
        ("/* /* s */ 's' */ SELECT 's'", "…"),
        (r"SELECT 'a\' s', 's'", "SELECT '…'"),
        ("SELECT 's", "SELECT '…'"),
        ("SELECT $a$s", "SELECT '…'"),
        ("SELECT 1\n, 's'", r"SELECT ?\n, '…'"),
    ],
)
def test_a_statement_is_shown_without_values(statement: str, seen: str) -> None:
    assert printable.statement(statement) == seen


def test_a_long_statement_is_cut() -> None:
    assert printable.statement("SELECT " + "a, " * 100) == "SELECT " + "a, " * 37 + "a,…"
