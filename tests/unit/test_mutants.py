# SPDX-License-Identifier: GPL-3.0-or-later
"""The breakages of `make mutants` fit the tree: each can be made, and its tests are there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from tests.mutants.breakages import Breakage, Fault, applied, files_of, load, selected

ROOT = Path(__file__).resolve().parents[2]
BREAKAGES = load()


@pytest.mark.parametrize("breakage", BREAKAGES, ids=[b.promise for b in BREAKAGES])
def test_it_can_be_made_and_its_tests_are_there(breakage: Breakage) -> None:
    broken = applied(breakage, (ROOT / breakage.file).read_text(encoding="utf-8"))
    if breakage.file.endswith(".py"):
        ast.parse(broken)
    else:
        yaml.safe_load(broken)
    assert breakage.tests
    for file in files_of(breakage):
        assert (ROOT / file).is_file(), file


def test_no_promise_is_there_twice() -> None:
    promises = [breakage.promise for breakage in BREAKAGES]
    assert len(promises) == len(set(promises)) >= 60


def test_an_entry_that_does_not_fit_is_named() -> None:
    lost = Breakage(7, "It holds.", "x.py", "a", "b", ("tests/x.py one two",))
    for whole in ("", "a a"):
        with pytest.raises(Fault, match=r"7 \(It holds.\)"):
            applied(lost, whole)
    assert applied(lost, "a") == "b"
    tests = ["tests/x.py::one[two]", "tests/x.py::one", "tests/xx.py::one[two]"]
    assert selected(lost, tests) == tests[:1]
    with pytest.raises(Fault, match="It holds"):
        selected(lost, tests[1:])
