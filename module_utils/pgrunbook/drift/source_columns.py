# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns of its source a phase reads, as far as its text tells."""

from __future__ import annotations

import re

from ..core.spec import Spec


def reads(spec: Spec, column: str) -> bool:
    """Whether the phase reads a column of its source: in its key, in an expression or in a query.
    Where the text does not tell, it counts as read."""
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
    """Whether SQL has the word. Where it is plain which parts are strings in quotes, these do not
    count."""
    if _PLAIN.fullmatch(expression) and "--" not in expression and "/*" not in expression:
        expression = re.sub(r"'(?:[^']|'')*'", "''", expression)
    quoted = word.replace('"', '""')
    return bool(re.search(rf"(?<!\w){re.escape(quoted)}(?!\w)", expression, re.IGNORECASE))
