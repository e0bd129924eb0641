# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL pieces that more than one step needs. Identifiers are always quoted by the driver."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from .connection import PATIENT_LOCK_TIMEOUT
from .spec import Table
from .spec_checks import MAX_NAME_BYTES


def name(*parts: str) -> Identifier:
    """A name, quoted by the driver; several parts make a qualified one.

    Per cent signs are doubled, as everywhere here: run such a statement with parameters, () if it
    has none.
    """
    return Identifier(*(part.replace("%", "%%") for part in parts))


def table(of: Table) -> Identifier:
    """A table's name, schema-qualified and quoted."""
    return name(of.schema, of.name)


def rename_column(on: Table, old: str, new: str) -> Composed:
    """The ALTER TABLE … RENAME COLUMN that turns old into new."""
    return SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(table(on), name(old), name(new))


def rename_index(on: Table, old: str, new: str) -> Composed:
    """The ALTER INDEX … RENAME of an index of the table."""
    return SQL("ALTER INDEX {} RENAME TO {}").format(name(on.schema, old), name(new))


def drop_index(index: Composable, *, concurrently: bool = True) -> Composed:
    """The DROP INDEX of an index, whose name is quoted and has its schema. On a partitioned table
    PostgreSQL drops none concurrently."""
    return SQL("DROP INDEX {}{}").format(SQL("CONCURRENTLY " if concurrently else ""), index)


def cut(long: str, suffix: str) -> str:
    """A name with a suffix, cut to what PostgreSQL keeps of a name."""
    kept = long.encode()[: MAX_NAME_BYTES - len(suffix.encode())].decode(errors="ignore")
    return kept + suffix


def comma(parts: Iterable[Composable]) -> Composed:
    """The parts with commas between them."""
    return SQL(", ").join(parts)


def text(of: str) -> SQL:
    """SQL that the catalog or the variables file spells out: a type's name, an expression.

    Per cent signs are doubled, as in name().
    """
    return SQL(of.replace("%", "%%"))


def placeholder(names: Collection[str]) -> str:
    """The pattern of a placeholder: one of the names in braces, as it is, whatever is in it."""
    longest_first = sorted(names, key=len, reverse=True)
    return rf"\{{({'|'.join(map(re.escape, longest_first))})\}}"


def filled_in(template: str, values: Mapping[str, Composable]) -> Composed:
    """SQL from the variables file, with a value for each placeholder; a doubled brace is a brace.

    Raises ValueError with a placeholder that is none of the values, or a brace that is not doubled.
    """
    parts: list[Composable] = []
    end = 0
    for found in re.finditer(
        rf"{placeholder(values)}|(\{{\{{|\}}\}})|\{{[^{{}}]*\}}?|\}}", template
    ):
        known, brace = found.groups()
        if known is None and brace is None:
            raise ValueError(found[0])
        parts += [text(template[end : found.start()]), values[known] if known else text(brace[0])]
        end = found.end()
    return Composed([*parts, text(template[end:])])


def literal(of: str) -> Literal:
    """A text as a value, quoted by the driver. Per cent signs are doubled, as in name()."""
    return Literal(of.replace("%", "%%"))


def literals(of: Iterable[str]) -> Literal:
    """Texts as an array, as in literal()."""
    return Literal([each.replace("%", "%%") for each in of])


def expression(of: str) -> Composed:
    """An SQL expression from the variables file, in parentheses of its own.

    A line break keeps a trailing comment from swallowing the parenthesis.
    """
    return SQL("({}\n)" if "--" in of else "({})").format(text(of))


def render(query: Composable) -> str:
    """A statement as a person reads it: with no doubled per cent signs."""
    return query.as_string(None).replace("%%", "%")


_ALONE = re.compile(r"(--[^\n]*\n)*((CREATE (UNIQUE )?|DROP |REINDEX )INDEX CONCURRENTLY |VACUUM )")


def is_alone(statement: str) -> bool:
    """Whether a statement cannot stand in a transaction with others."""
    return bool(_ALONE.match(statement))


def together(statements: Iterable[str]) -> list[list[str]]:
    """The statements as script() takes them: neighbours in one transaction where they can be."""
    return [list(group) for _, group in groupby(statements, is_alone)]


def script(transactions: Iterable[Sequence[str]], lock_timeout_ms: int) -> str:
    """Statements as a person runs them by hand, such as in psql. Each waits for its lock as briefly
    as the runbook does, lock_timeout_ms milliseconds; one that cannot stand in a transaction waits
    as patiently, since it keeps nobody waiting. A line that begins with --
    may stand as a statement."""
    lines: list[str] = []
    for statements in transactions:
        ended = [s if s.startswith("--") and "\n" not in s else f"{s};" for s in statements]
        if any(is_alone(s) for s in statements):
            set_ = f"SET lock_timeout = '{PATIENT_LOCK_TIMEOUT}';"
            lines += [set_, *ended, "RESET lock_timeout;"]
        else:
            set_ = f"SET LOCAL lock_timeout = '{lock_timeout_ms}ms';"
            lines += ["BEGIN;", set_, *ended, "COMMIT;"]
    return "\n".join(lines)


_PLAIN = re.compile(r"[A-Za-z_\x80-\U0010ffff][\w$\x80-\U0010ffff]*", re.ASCII)
# Longer than any name, even if every letter is an escape.
_QUOTED = re.compile(r'"(?=((?:[^"]|""){1,504})(?:"\s*(?i:UESCAPE)\s*\'(.)\')?)')
_HEXADECIMAL = r"(?:\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4}))"


def words(texts: Iterable[str]) -> set[str]:
    """Everything in SQL, or in a function's body, that may be an identifier, as PostgreSQL stores
    it. Too much rather than too little: words of comments and strings, which may be statements;
    whatever stands between two quotation marks; and a word as it is spelled and in lower case,
    because PostgreSQL folds ASCII only, apart from databases whose characters have one byte.
    """
    found = set()
    for of in texts:
        for word in set(_PLAIN.findall(of)):
            parts = {word, *word.split("$")}  # $tag$word is no word, and word$ is one
            found |= parts | {_folded(part) for part in parts}
            found |= {_folded(part, ascii_only=False) for part in parts if not part.isascii()}
        for match in _QUOTED.finditer(of):
            quoted = match[1].replace('""', '"')
            found.add(quoted)
            if of[max(match.start() - 2, 0) : match.start()] in ("U&", "u&"):
                found.add(_unescaped(quoted, match[2]))
    return {cut(word, "") for word in found if word and "\0" not in word}


def _folded(word: str, *, ascii_only: bool = True) -> str:
    if word.isascii():
        return word.lower()
    return "".join(
        letter.lower() if letter.isascii() or not (ascii_only or letter.lower()[1:]) else letter
        for letter in word
    )


def _unescaped(quoted: str, escape: str | None) -> str:
    """What U&"…" stands for."""
    pattern = re.escape(escape or "\\") + _HEXADECIMAL
    units = re.sub(pattern, lambda found: chr(int(found[1] or found[2], 16) % 0x110000), quoted)
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_NAME = re.compile(
    r"""
      "(?P<quoted>(?:[^"]|"")+)"
    | --[^\n]* | /\*.*?\*/
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$
    | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'
    | (?P<word>[^\W\d][\w$]*)
    """,
    re.DOTALL | re.VERBOSE,
)
"""A name of a statement, quoted or not, among what may hold words and is none."""


def names_in(statement: str) -> frozenset[str]:
    """The names and key words of a statement, as the server reads them: what is not quoted is in
    small letters. What is in texts and comments is none; words() has these too."""
    return frozenset(
        found["quoted"].replace('""', '"') if found["quoted"] else _folded(found["word"])
        for found in _NAME.finditer(statement)
        if found["quoted"] or found["word"]
    )
