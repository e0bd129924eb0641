# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns of its source a phase reads, by its text."""

from __future__ import annotations

import re

from ..core.spec import Spec


def reads(spec: Spec, column: str) -> bool:
    """Whether the phase reads a column of its source: in its key, an expression or a query. Where
    that cannot be told by the name, it does."""
    if column in spec.source_key.values():
        return True
    expressions = [c.source for c in spec.columns]
    queries = [side for q in spec.queries for side in (q.snapshot, q.baseline)]
    row = rf'(?<!\w){re.escape(spec.source.name)}(?![\w"]*\s*\.)(?!\w)'
    return (
        any(_mentions(text, column) for text in (*expressions, *queries))
        or any(re.search(row, text, re.IGNORECASE) for text in expressions)
        or any(_WHOLE_ROWS.search(query) for query in queries)
    )


_WHOLE_ROWS = re.compile(r"(\bselect\s+|\.\s*|,\s*)\*", re.IGNORECASE)
_PLAIN = re.compile(r"""[^"$\\]*""")


def _mentions(expression: str, word: str) -> bool:
    """Whether SQL has the word. Texts in quotes do not count, where it is plain which these are."""
    if _PLAIN.fullmatch(expression) and "--" not in expression and "/*" not in expression:
        expression = re.sub(r"'(?:[^']|'')*'", "''", expression)
    quoted = word.replace('"', '""')
    return bool(re.search(rf"(?<!\w){re.escape(quoted)}(?!\w)", expression, re.IGNORECASE))
