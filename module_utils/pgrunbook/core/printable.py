# SPDX-License-Identifier: GPL-3.0-or-later
"""How text from outside is shown: with an escape for every character that cannot be seen.

Such characters move the cursor, turn the direction of the text or hide what is there, so that a
person approves something else than they read. What is stored or hashed keeps them.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of control, format and surrogate characters, line and paragraph separators.
The direction of text and zero-width characters are format."""


_INVISIBLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xFFF0, 0xFFF9),
            *range(0xE0000, 0xE1000),
        ),
    )
)
"""What Unicode counts as letters, marks or unassigned, and shows as nothing: its property
Default_Ignorable_Code_Point, and the empty Braille pattern."""
_MAY_BE_UNSEEN = re.compile(f"[{''.join(sorted(_INVISIBLE))}]")


def is_unseen(char: str) -> bool:
    """Whether a character is shown as an escape."""
    return unicodedata.category(char) in _UNSEEN or char in _INVISIBLE


def line(of: Any) -> str:
    r"""The text in one line: a line break is shown as \n, ESC as \x1b, U+202E as \u202e."""
    return _escaped(str(of), "")


def text(of: Any) -> str:
    """The text with its line breaks and tabs; every other character that cannot be seen is shown as
    line() does."""
    return _escaped(str(of), "\n\t")


def statement(of: str) -> str:
    """The beginning of an SQL statement in one line, without its values: strings, numbers and
    comments. Where a backslash stands before a quote, the string may end there or not, and nothing
    after it is shown."""
    found = line(_TOKEN.sub(_without_value, of))
    return found if len(found) <= LONGEST_STATEMENT else f"{found[:LONGEST_STATEMENT]}…"


def every(value: Any, how: Callable[[Any], str] = text) -> Any:
    """A value of lists, mappings and dataclasses, with each text in it, and each key, as how()
    shows it."""
    if isinstance(value, str):
        return how(value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: every(getattr(value, f.name), how) for f in fields(value)})
    if isinstance(value, dict):
        return {every(key, how): every(inner, how) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [every(inner, how) for inner in value]
    return value


def sql(of: str) -> str:
    r"""A statement that means the same and can be copied from where it is shown: a quoted name or
    text with a character that cannot be seen is written with PostgreSQL's escapes, U&"\202E"."""
    parts, at = [], 0
    for found in SQL_TOKEN.finditer(of):
        parts += [text(of[at : found.start()]), _copyable(found[0])]
        at = found.end()
    return "".join([*parts, text(of[at:])])


def yaml(of: str) -> str:
    """A name as YAML's flow style takes it, in a list or a mapping: quoted, unless it is a word."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", of) and of.lower() not in _YAML_WORDS:
        return of
    return in_json(json.dumps(of, ensure_ascii=False))


def extra_variable(variable: str, values: Iterable[str]) -> str:
    """The option that passes a playbook a list, as a shell takes it."""
    document = json.dumps({variable: list(values)}, ensure_ascii=False)
    return f"-e {shlex.quote(in_json(document))}"


SQL_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
    r"""|[eE]'(?:[^'\\]|\\.|'')*'|[uU]&"(?:[^"]|"")*"|[uU]&'(?:[^']|'')*'"""
    r"""|"(?:[^"]|"")*"|'(?:[^']|'')*'""",
    re.DOTALL,
)
"""What of a statement must not be broken: comments, quoted names and quoted texts."""

_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def _copyable(token: str) -> str:
    if _can_be_seen(token):
        return token
    if token[0] in "\"'":
        inner = token.replace("\\", "\\\\")
        return "U&" + "".join(_unicode(c, "\\{:04X}", "\\+{:06X}") for c in inner)
    if token[0] in "eE":
        return "".join(_unicode(c, "\\u{:04x}", "\\U{:08x}") for c in token)
    return text(token)


def _unicode(char: str, short: str, long: str) -> str:
    if not is_unseen(char):
        return char
    return (short if ord(char) <= 0xFFFF else long).format(ord(char))


def in_json(document: str) -> str:
    """A JSON document that means the same, with JSON's escape for what cannot be seen."""
    return _PLAIN.sub(lambda run: "".join(map(_json, run[0])), document)


LONGEST_STATEMENT = 120  # characters

_TOKEN = re.compile(
    r"""
      (?P<name>"(?:[^"]|"")*"?)
    | (?P<number>(?<![\w$])\d[\w.]*)
    | (?P<comment>--[^\n]*|/\*(?:(?!/\*|\*/).)*\*/|/\*.*)
    | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
    | '(?:[^'\\]|''|\\[^'])*(?:'|\Z)
    | '.*
    """,
    re.DOTALL | re.VERBOSE,
)


def _without_value(token: re.Match[str]) -> str:
    if token["name"] is not None:
        return token[0]
    if token["number"] is not None:
        return "?"
    return "…" if token["comment"] is not None else "'…'"


_PLAIN = re.compile(r"[^\n\x20-\x7e]+")


def _json(char: str) -> str:
    if not is_unseen(char):
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))


def _escaped(of: str, kept: str) -> str:
    rest = of
    for char in kept:
        rest = rest.replace(char, "")
    if _can_be_seen(rest):
        return of
    return "".join(
        char.encode("unicode_escape").decode() if is_unseen(char) and char not in kept else char
        for char in of
    )


def _can_be_seen(of: str) -> bool:
    return of.isprintable() and (of.isascii() or not _MAY_BE_UNSEEN.search(of))
