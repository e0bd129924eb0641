# SPDX-License-Identifier: GPL-3.0-or-later
"""Which columns an index would need, and how large it would be."""

from __future__ import annotations

import pytest

from ansible.module_utils.pgrunbook.ddl.index_advice import (
    IndexAdvice,
    estimated,
    index_bytes,
    index_columns,
)

NAMES = {"asn": "asn", "country": "country", "kind": "kinds"}
COLUMNS = ["id", "address", "asn", "country", "kinds", "CN"]


@pytest.mark.parametrize(
    ("query", "by", "include"),
    [
        (
            "SELECT count(*) FROM {table} WHERE {country} = 'CN' AND {kind} = 'X'",
            ["country", "kinds"],
            [],
        ),
        (
            "SELECT {asn}, count(DISTINCT address) FROM {table}"
            " WHERE {asn} IS NOT NULL AND {kind} = 'address'",
            ["kinds", "asn"],
            ["address"],
        ),
        ("SELECT count(*) FROM {table} JOIN {source} USING (id)", [], ["id"]),
        ("SELECT '{asn} it''s address' FROM {table} WHERE {kind}= 'CN'", ["kinds"], []),
    ],
    ids=["the finding's", "equality first", "no column of the phase", "literals are no names"],
)
def test_columns(query: str, by: list[str], include: list[str]) -> None:
    assert index_columns(query, NAMES, COLUMNS) == (by, include)


def test_bytes_are_those_of_the_page_layout() -> None:
    """8 bytes of header and 3 + 11 of data are 22, aligned 24, and a line pointer of 4."""
    assert index_bytes(900, [3, 11]) == 28000


def test_said_in_a_sentence() -> None:
    advice = IndexAdvice("ix", ("a", "b"), ("c",), "", "", bytes=12_340_000, seconds=3.0)
    said = (
        "An index on (a, b) including c would hold all that it reads: at most about 12.3 MB, built "
        "in about 3 s (estimated, not tried"
    )
    assert estimated(advice) == f"{said})"
    assert estimated(advice, "no time") == f"{said}: no time)"
