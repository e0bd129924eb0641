# SPDX-License-Identifier: GPL-3.0-or-later
"""Text as a terminal has room for it: in a frame, for what a person is asked, or behind a label."""

from __future__ import annotations

import re
import textwrap

WIDTH = 98
COMMAND = "ansible-playbook "
_HANGING = re.compile(r"(?:[A-Z][A-Za-z-]+ {2,}| *)")  # a label, or an indentation


def hanging(label: str, text: str, indent: int | None = None) -> list[str]:
    """A text behind a label, wrapped at words, that goes on below itself, or so far indented."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * (len(label) if indent is None else indent),
        break_long_words=False,
        break_on_hyphens=False,
    )


def framed(title: str, text: str) -> str:
    """The text in a frame that has the title in its upper edge. Lines that are too long are
    wrapped, and go on below the text behind their label, or with the indentation that they have. A
    command stays whole, and may stick out."""
    inner = WIDTH - 4
    title = f" {title} " if title else ""
    top = f"┌─{title[: inner - 2]}"
    rows = [f"│ {line:<{inner}} │" for line in _wrapped(text, inner)]
    return "\n".join([f"{top:─<{WIDTH - 1}}┐", *rows, f"└{'─' * (WIDTH - 2)}┘"])


def _wrapped(text: str, width: int) -> list[str]:
    lines = []
    for line in text.strip("\n").split("\n"):
        if COMMAND in line:
            lines.append(line)
            continue
        indent = " " * len(_HANGING.match(line)[0])  # type: ignore[index]
        lines += textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) or [
            ""
        ]
    return lines
