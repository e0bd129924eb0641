# SPDX-License-Identifier: GPL-3.0-or-later
"""The text that a person signs: what it says, and that no name can make it say anything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.signing import statement
from ansible.module_utils.pgrunbook.signing.statement import SignedHost, Statement
from tests.signers import HASH, HOST, NOW, PLAN

SIGNED = replace(PLAN, signer="alice@example.org", signed_at=NOW, expires_at=NOW.replace(day=1))
OTHER = "f" * 64


def test_it_is_read_by_a_person() -> None:
    assert statement.text(replace(SIGNED, hosts=(replace(HOST, window="2026-01-31T06:00Z"),))) == (
        "pgrunbook approval, version 1\n"
        f"Plan       {HASH}\n"
        "Scope      plan\n"
        "Phase      phase3: Phase 3\n"
        "Host       db1 (system identifier 7000000000000000001)\n"
        "Database   app\n"
        "Table      public.sessions\n"
        "Rows       1,000 to fill (an estimate)\n"
        "Window     ends at 2026-01-31T06:00Z\n"
        "Signer     alice@example.org\n"
        "Signed at  2026-01-31T04:00:00Z\n"
        "Expires    2026-01-01T04:00:00Z\n"
    )


names = st.text(max_size=12) | st.sampled_from(
    ["x\nExpires    2099-01-01T00:00:00Z", "Phase ", "a (system identifier 1)", "é", "\u202e", "no"]
)
hosts = st.builds(SignedHost, names, names, names, st.just(HASH), names, names, st.integers(0))
several = st.lists(hosts, min_size=1, max_size=3)


@given(several, names)
def test_a_name_stands_in_its_own_line_and_nothing_is_lost(
    found: list[SignedHost], signer: str
) -> None:
    text = statement.text(replace(SIGNED, hosts=tuple(found), signer=signer))
    assert text.count("\n") == 6 + len(found) * (6 + (len(found) > 1))
    again = statement.read(text)
    assert statement.text(again) == text
    assert len(again.hosts) == len(found) and [h.rows for h in again.hosts] == [
        h.rows for h in found
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "hello\n",
        lambda text: text.replace("version 1", "version 2"),
        lambda text: text + "\n",
        lambda text: text + "Note       x\n",
        lambda text: text.replace("Rows       1,000", "Rows       1000"),
        lambda text: text.replace("Table ", "table "),
        lambda text: text.replace(HASH, "0123"),
        lambda text: text.replace("2026-01-31T04:00:00Z", "yesterday"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("Database   app\n", ""),
        lambda text: text.replace("app", "\x1b[2J"),
    ],
)
def test_another_text_is_none(change: object) -> None:
    assert callable(change)
    with pytest.raises(RunbookError, match="not one that scripts/approve writes"):
        statement.read(change(statement.text(SIGNED)))


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (replace(PLAN, hash=OTHER), "Plan"),
        (replace(PLAN, scope="rollback"), "Scope"),
        (replace(PLAN, hosts=(replace(HOST, phase="phase4"),)), "Phase"),
        (replace(PLAN, hosts=(replace(HOST, host="db2"),)), "Host"),
        (replace(PLAN, hosts=(replace(HOST, system_identifier="8"),)), "Host"),
        (replace(PLAN, hosts=(replace(HOST, database="other"),)), "Database"),
        (replace(PLAN, hosts=(replace(HOST, table="public.other"),)), "Table"),
        (replace(PLAN, hosts=(replace(HOST, window="2026-01-31T06:00Z"),)), "Window"),
        (replace(PLAN, hosts=(HOST, HOST)), "Database"),
        (replace(PLAN, hosts=()), "Phase"),
    ],
)
def test_each_line_on_the_plan_is_compared(wanted: Statement, line: str) -> None:
    assert statement.unlike(SIGNED, wanted).startswith(f"its line '{line} ")


def test_who_signed_when_and_estimates_are_not_compared() -> None:
    assert statement.unlike(SIGNED, PLAN) == ""
    assert statement.unlike(SIGNED, replace(PLAN, hosts=(replace(HOST, rows=3),))) == ""


def test_of_several_hosts_each_has_its_plan() -> None:
    two = replace(SIGNED, hosts=(HOST, replace(HOST, host="db2", plan_hash=OTHER)))
    assert f"Its plan   {OTHER}\n" in statement.text(two)
    assert "Its plan" in statement.unlike(
        two, replace(two, hosts=(HOST, replace(two.hosts[1], plan_hash="e" * 64)))
    )
