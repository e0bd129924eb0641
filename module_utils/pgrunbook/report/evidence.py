# SPDX-License-Identifier: GPL-3.0-or-later
"""The evidence of a gate as text: figures, definitions, query plans, differences of the schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..core.values import read
from ..ddl.index_advice import megabytes
from ..drift import Difference, read_differences
from ..gates import Advice, Gate, QueryPair, in_words
from .value import Json

SIDES = (("snapshot", "Query on the filled columns"), ("baseline", "Query that it replaces"))

_NODE = (
    ("Actual Rows", "rows"),
    ("Actual Loops", "loops"),
    ("Shared Hit Blocks", "hit"),
    ("Shared Read Blocks", "read"),
)


def differences(gate: Gate) -> list[Difference]:
    """The differences from the models, where that is what the gate's evidence is."""
    if gate.id != "schema" or not isinstance(gate.evidence, list):
        return []
    return read_differences(gate.evidence)


def blocks(gate: Gate) -> tuple[tuple[str, str], ...]:
    """The evidence as preformatted texts with a caption each; none where there is none, or where
    it is a list of differences."""
    evidence = gate.evidence
    if evidence in (None, [], {}) or differences(gate):
        return ()
    if gate.id.startswith("query:") and isinstance(evidence, dict):
        return tuple(_query(evidence))
    return (("Figures", "\n".join(_flat("", evidence))),)


ADVICE = ("Query", "Index", "Size", "Build", "With the index")


def advice(gates: Iterable[Gate]) -> list[tuple[str, ...]]:
    """A row under ADVICE for each query that an index would serve: estimated, or tried."""
    found = [g.evidence for g in gates if g.id.startswith("query:") and g.evidence]
    pairs = [read(QueryPair, evidence) for evidence in found]
    return [_advised(pair.name, pair.proposal) for pair in pairs if pair.proposal]


def _advised(query: str, found: Advice) -> tuple[str, ...]:
    tried = found.tried
    if not tried:
        return (
            query,
            found.sql,
            f"at most about {megabytes(found.bytes)}",
            f"about {found.seconds:g} s",
            f"not tried{f': {found.not_tried}' if found.not_tried else ''}",
        )
    return (
        query,
        found.sql,
        megabytes(tried.bytes),
        f"{tried.seconds:g} s",
        f"{in_words(tried)}; without it {in_words(tried.without)}. "
        f"{'Meets' if tried.met else 'Misses'} the target; "
        f"{'kept' if tried.kept else 'dropped again'}",
    )


def _query(pair: Json) -> Iterator[tuple[str, str]]:
    proposal = pair.get("proposal") or {}
    tried = proposal.get("tried") or {}
    without_sides = {key: value for key, value in tried.items() if key not in dict(SIDES)}
    told = {**proposal, **({"tried": without_sides} if tried else {})}
    figures = {key: value for key, value in pair.items() if key not in dict(SIDES)}
    yield "Figures", "\n".join(_flat("", {**figures, "proposal": told or None}))
    for side, caption in SIDES:
        yield caption, _side(pair.get(side) or {})
    if tried and not tried["kept"]:
        for side, caption in SIDES:
            yield f"{caption}, with the index", _side(tried.get(side) or {})


def _side(measured: Json) -> str:
    figures = {key: value for key, value in measured.items() if key != "plan"}
    return "\n".join([*_flat("", figures), "", *_node(measured.get("plan") or {}, 0)])


def _flat(path: str, value: Any) -> Iterator[str]:
    """Nested figures as lines of path and value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), inner)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _flat(path, inner)
    else:
        yield f"{path}: {value}" if path else str(value)


def _node(node: Json, depth: int) -> Iterator[str]:
    """A plan of EXPLAIN (FORMAT JSON) as an indented line for each node."""
    if not node:
        return
    on = node.get("Index Name") or node.get("Relation Name")
    figures = ", ".join(f"{word} {node[key]:,}" for key, word in _NODE if key in node)
    where = node.get("Index Cond") or node.get("Hash Cond") or node.get("Filter")
    line = f"{'  ' * depth}{node.get('Node Type')}{f' on {on}' if on else ''}  ({figures})"
    yield f"{line}  {where}" if where else line
    for inner in node.get("Plans") or []:
        yield from _node(inner, depth + 1)
