# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a page: HTML for a screen, a telephone and paper; Markdown for a ticket.

The templates stand with the action plugin, because Ansible ships a module no file but Python.
Whatever they show of a report is escaped: as markup, and for the eye.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..core import printable
from .value import Report
from .view import view


def html(report: Report, plots: Mapping[str, str], templates: Path) -> str:
    """The page as one file that loads nothing and runs no script. plots are SVG elements by
    caption, as plots.draw() makes them; these alone are trusted."""
    shown = view(printable.every(report))
    return rendered_html(
        "report.html.j2",
        templates,
        plots,
        page=shown,
        report=shown.report,
        decision=shown.report.decision,
        mismatch=shown.report.mismatch,
    )


def markdown(report: Report, templates: Path) -> str:
    """The page as Markdown."""
    shown = view(printable.every(report))
    return rendered_markdown(
        "report.md.j2",
        templates,
        page=shown,
        report=shown.report,
        decision=shown.report.decision,
        mismatch=shown.report.mismatch,
    )


def rendered_html(name: str, templates: Path, plots: Mapping[str, str], **values: Any) -> str:
    """A template with values, all of which are escaped, and plots, which are not."""
    drawings = {caption: Markup(drawing) for caption, drawing in plots.items()}
    return _of_html(templates).get_template(name).render(plots=drawings, **values)


def rendered_markdown(name: str, templates: Path, **values: Any) -> str:
    """A template of Markdown with values, all of which are escaped."""
    return _of_markdown(templates).get_template(name).render(**values)


def compile_ahead(templates: Path) -> None:
    """Compile the templates of a run's report, so that a process that is copied from this one has
    them."""
    for name in ("report.html.j2", "report.css"):
        _of_html(templates).get_template(name)
    _of_markdown(templates).get_template("report.md.j2")


@cache
def _of_html(templates: Path) -> Environment:
    return _environment(templates)


@cache
def _of_markdown(templates: Path) -> Environment:
    environment = _environment(templates, finalize=_in_markdown)
    environment.filters |= {"fenced": _fenced, "indented": _indented, "code": _code}
    return environment


def _environment(templates: Path, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Where templates are looked up, and stay compiled. finalize() is given each value that they
    show."""
    return Environment(
        finalize=finalize,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=FileSystemLoader(templates),
    )


_MARKUP = re.compile(r"([\\`*~|\[\]]|(?<![^\W_])_|_(?![^\W_]))")
"""What Markdown reads as markup within a line; an underscore within a word is none."""


def _in_markdown(value: Any) -> Markup:
    """A value in one line, with nothing in it that Markdown or HTML would read as markup. What is
    marked as safe stays as it is."""
    if hasattr(value, "__html__"):
        return Markup(value)
    escaped = _MARKUP.sub(r"\\\1", " ".join(str(value).split()))
    return Markup(escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _fenced(text: str, language: str) -> Markup:
    """A block of code whose fence is longer than any run of backquotes in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup("\n".join([f"{fence}{language}", *text.splitlines(), fence]))


def _indented(block: Markup) -> Markup:
    """A block of code as a part of a list."""
    return Markup("\n".join(f"    {line}" for line in [*block.split("\n"), ""]))


def _code(text: str) -> Markup:
    """A hash in a fixed-width font; a backquote, which no hash has, would end the code."""
    return Markup(f"`{text.replace('`', '')}`")
