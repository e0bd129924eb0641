# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and expressions: quoted by the driver, and legible to the person who approves them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.sql import SQL

from ansible.module_utils.pgrunbook.core import sql
from ansible.module_utils.pgrunbook.core.spec import Table

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def unquoted(identifier: str) -> str:
    assert identifier.startswith('"') and identifier.endswith('"')
    inner = identifier[1:-1]
    assert '"' not in inner.replace('""', ""), "a quote that ends the name early"
    return inner.replace('""', '"')


@given(texts)
@example('say "hi"')
@example("100%")
@example("100%%s")
@example('"; DROP TABLE x; --')
@example("Größe")
@example("ä" * 63)
def test_a_name_comes_back_whatever_is_in_it(name: str) -> None:
    assert unquoted(sql.render(sql.name(name))) == name


@given(texts)
def test_a_name_holds_no_placeholder_when_it_is_sent(name: str) -> None:
    """psycopg takes %s, %(x)s and a single % for placeholders; each % of a name is doubled."""
    assert sql.name(name).as_string(None).replace("%%", "").count("%") == 0


@pytest.mark.parametrize(
    ("schema", "table", "expected"),
    [
        ("public", "orders", '"public"."orders"'),
        ("My Schema", "Orders", '"My Schema"."Orders"'),
        ('a"b', "c.d", '"a""b"."c.d"'),
        ("50%", "x", '"50%"."x"'),
    ],
)
def test_tables_are_qualified_and_quoted(schema: str, table: str, expected: str) -> None:
    assert sql.render(sql.table(Table(schema, table))) == expected


def test_comma() -> None:
    assert sql.render(sql.comma([sql.name("a"), sql.name("b")])) == '"a", "b"'
    assert sql.render(sql.comma([])) == ""


@given(texts.filter(lambda text: "{" not in text and "}" not in text))
def test_rendered_text_is_the_text(text: str) -> None:
    assert sql.render(sql.text(text)) == text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ip_types[1]", "(ip_types[1])"),
        ("enrichment->>'type'", "(enrichment->>'type')"),
        ("price % 10", "(price % 10)"),
        ("a LIKE '%x%%'", "(a LIKE '%x%%')"),
        ("a -- why", "(a -- why\n)"),
        ("a /* why */", "(a /* why */)"),
        ("a - -b", "(a - -b)"),
        ("a--b", "(a--b\n)"),
    ],
)
def test_an_expression_keeps_its_parentheses(source: str, expected: str) -> None:
    assert sql.render(sql.expression(source)) == expected


@given(texts.filter(lambda text: "{" not in text and "}" not in text))
def test_the_closing_parenthesis_of_an_expression_is_never_in_a_line_comment(source: str) -> None:
    last_line = sql.render(sql.expression(source)).rsplit("\n", 1)[-1]
    assert last_line.endswith(")")
    assert "--" not in last_line


names = st.text(st.sampled_from("a{}%: !.[0]"), min_size=1, max_size=6)


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.data())
@example(["a", "{a}", "a}"], None)
def test_a_placeholder_is_a_name_whatever_is_in_it(columns: list[str], data: Any) -> None:
    column = columns[-1] if data is None else data.draw(st.sampled_from(columns))
    values = {each: SQL(f"<{number}>") for number, each in enumerate(columns)}
    filled = sql.filled_in(f"SELECT 50 % 7, {{{column}}}", values)
    assert sql.render(filled) == f"SELECT 50 % 7, <{columns.index(column)}>"


def test_doubled_braces_are_braces_and_others_are_refused() -> None:
    values = {"a": SQL("<a>")}
    assert sql.render(sql.filled_in("'{{a}}' {{{a}}}", values)) == "'{a}' {<a>}"
    for wrong in ("{b}", "{}", "{", "}", "{a"):
        with pytest.raises(ValueError, match=re.escape(wrong)):
            sql.filled_in(wrong, values)


def test_render_shows_what_the_server_gets() -> None:
    query = SQL("SELECT {} WHERE x LIKE '%%a' AND y = %(y)s").format(sql.name("50%"))
    assert sql.render(query) == """SELECT "50%" WHERE x LIKE '%a' AND y = %(y)s"""


FOUND = {
    "f /* called */ (x)": {"f", "x"},
    'Lower("My ""F"""(x))': {"lower", 'My "F"'},
    """'"' || "odd one"(x) || '"'""": {"odd one"},
    "É(x), Éa.B": {"É", "é", "b", "Éa"},
    'U&"d\\0061t\\+000061", u&"d!0061ta" UESCAPE \'!\'': {"data"},
    "$body$inner_one(x)$body$ a$b": {"inner_one", "a$b"},
    "EXECUTE 'SELECT hidden(1)' --also": {"hidden", "also"},
    "OPERATOR(third.@@@) 1x": {"third", "x"},
    "a" * 70: {"a" * 63},
    "É" * 40: {"É" * 31},
}


@pytest.mark.parametrize("text", FOUND)
def test_every_identifier_of_a_text_is_found(text: str) -> None:
    assert sql.words([text]) >= FOUND[text]


@given(st.text(), texts.filter(lambda name: len(name.encode()) < 64), st.text())
@example('"', "My f", '"')
@example("U&", r"\d83d", "")
def test_a_quoted_identifier_is_found_wherever_it_stands(left: str, name: str, right: str) -> None:
    quoted = name.replace('"', '""')
    assert name in sql.words([f'{left}"{quoted}" {right}'])


@pytest.mark.parametrize(
    ("statement", "there"),
    [
        ("SELECT state FROM t", True),
        ("SELECT STATE FROM t", True),
        ('SELECT t."state" FROM t', True),
        ("SELECT statement, state_, _state, state$1, states FROM t", False),
        ('SELECT "STATE", "a state", "state""" FROM t', False),
        ("SELECT 'state', E'a\\' state ', $$state$$, $a$ state $a$ FROM t", False),
        ("SELECT 1 -- state\n/* state\n */ FROM t", False),
        ("SELECT ''''::text, state FROM t", True),
        ("SELECT a$b$, state, c$b$ FROM t", True),
        ("SELECT état FROM t", False),
    ],
)
def test_the_names_of_a_statement_are_whole_words_outside_of_texts_and_comments(
    statement: str, there: bool
) -> None:
    assert ("state" in sql.names_in(statement)) is there


def test_a_quoted_name_is_as_it_is_quoted() -> None:
    assert sql.names_in('SELECT "A ""b"" é", É FROM "T"') == {"select", 'A "b" é', "É", "from", "T"}
