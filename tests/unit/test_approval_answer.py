# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of an answer that is the hash of the same plan with another strategy."""

from __future__ import annotations

from types import ModuleType

import pytest

from ansible.module_utils.pgrunbook.core.frame import WIDTH, framed
from tests.plugins import action_plugin

HASH, NOW = "3e3cb669" + "0" * 56, "9021b136" + "0" * 56
OTHERS = [{"plan_hash": HASH, "told": "The strategy has changed since: then that, now this."}]


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    return action_plugin("question")


def test_the_beginning_that_was_typed_is_known(plugin: ModuleType) -> None:
    assert plugin._changed(HASH[:8], OTHERS) == f"{OTHERS[0]['told']} "
    assert plugin._changed(HASH, OTHERS) == f"{OTHERS[0]['told']} "
    for answer in ("", "3", HASH[:7], "yes, please", NOW[:8]):
        assert plugin._changed(answer, OTHERS) == ""


def test_the_second_question_wants_other_digits(plugin: ModuleType) -> None:
    digits = "".join(f"{n:08x}" for n in range(8))
    assert plugin._token(digits, "plan") == plugin._token(digits, "rollback") == "00000000"
    assert plugin._token(digits, "backfill") == plugin._token(digits, "waves") == "00000001"


def test_a_frame_keeps_long_lines_and_what_is_indented_within_it() -> None:
    lines = framed("A title", "Label     word\n          " + "word " * 40 + "\n\nend").split("\n")
    assert {len(line) for line in lines} == {WIDTH}
    assert lines[0].startswith("┌─ A title ──") and lines[-1].startswith("└──")
    assert lines[2].startswith("│           word word") and lines[3].startswith("│           word")
    assert lines[-2].strip("│ ") == "end" and lines[-3].strip("│ ") == ""


def test_a_hash_that_was_passed_is_refused_with_what_has_changed(plugin: ModuleType) -> None:
    refused = plugin._refusal(HASH, NOW, OTHERS, HASH)
    assert OTHERS[0]["told"] in refused and "mistyped" not in refused
    assert "mistyped" in plugin._refusal("0" * 64, NOW, OTHERS, "0" * 64)
    assert 'The approval "" is not the hash of this plan' in plugin._refusal("", NOW, OTHERS, "")
    assert plugin._refusal(NOW, NOW, OTHERS, NOW) == ""


@pytest.mark.parametrize(
    "expression",
    [
        "{{ runbook_plan.plan_hash }}",
        "#jinja2:variable_start_string:'[[', variable_end_string:']]'\n[[ runbook_plan.x ]]{# #}",
    ],
)
def test_an_expression_approves_nothing_whatever_its_delimiters(
    plugin: ModuleType, expression: str
) -> None:
    assert "is an expression" in plugin._refusal(NOW, NOW, OTHERS, expression)


def test_an_account_without_a_name_is_its_number() -> None:
    nameless = 2**31 - 7
    assert action_plugin("approval").account(nameless) == str(nameless)


def test_an_answer_that_this_execution_did_not_get_is_none(plugin: ModuleType) -> None:
    got = {"hash": NOW, "scope": "plan", "method": "prompt", "signatures": []}
    sealed = {**got, "seal": plugin.sealed(got)}
    is_sealed = action_plugin("approval").is_sealed
    assert is_sealed(sealed)
    others = [{**sealed, key: "x"} for key in sealed]
    assert not any(map(is_sealed, [*others, got, {}, {**got, "seal": None}]))
