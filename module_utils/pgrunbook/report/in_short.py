# SPDX-License-Identifier: GPL-3.0-or-later
"""What a gate wanted and found, in the few words that fit a cell or a sentence. The tests of the
report have the rest."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.values import read
from ..ddl.index_advice import entry
from ..gates import Gate, QueryPair, in_words
from ..gates.gate import FAIL, WARN

Targets = Mapping[str, float]
"""The phase's targets by their names, as the report has them."""


def target(gate: Gate, targets: Targets) -> str:
    """What was wanted."""
    if _pair(gate) and "speedup_min" in targets:
        return f"≥ {targets['speedup_min']:g} × faster, or as much less work from a warm cache"
    return gate.target


def current(gate: Gate) -> str:
    """What was found; with the query's name, where it is of a query."""
    pair = _pair(gate)
    if not pair:
        return f"{gate.measured:,}" if isinstance(gate.measured, int) else str(gate.measured)
    return f"{pair.name}: {_compared(pair)}"


def missed(gate: Gate, targets: Targets) -> str:
    """A gate that was missed, in a sentence without its full stop."""
    pair = _pair(gate)
    if not pair:
        return f"{gate.title}: wanted {gate.target}, found {current(gate)}"
    unenforced = " (not enforced)" if gate.status == WARN else ""
    wanted = f"wanted {target(gate, targets)}{unenforced}"
    return f"{gate.title}: {wanted}, found {_compared(pair)}"


def proposed_index(gate: Gate) -> str:
    """The index that would serve the query of a gate, as phase_indexes takes it; empty where none
    would."""
    pair = _pair(gate)
    return entry(pair.proposal.index) if pair and pair.proposal else ""


def counted(number: int, noun: str, several: str = "") -> str:
    """A number with its noun; several is the plural where it takes more than an s."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def failed(gates: tuple[Gate, ...]) -> list[Gate]:
    """Those for which the verdict is NO-GO."""
    return [gate for gate in gates if gate.status == FAIL]


def _compared(pair: QueryPair) -> str:
    return f"{in_words(pair)}{'' if pair.equal else ', DIFFERENT RESULTS'}"


def _pair(gate: Gate) -> QueryPair | None:
    """The queries that a gate is of."""
    if not gate.id.startswith("query:") or not isinstance(gate.evidence, dict):
        return None
    return read(QueryPair, gate.evidence)
