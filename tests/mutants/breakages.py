# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in breakages.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("breakages.toml")


class Fault(Exception):
    """An entry that does not fit the tree."""


@dataclass(frozen=True)
class Breakage:
    """A mistake in one file: old, which is there once, becomes new, and the promise is broken.

    Each of the tests is a file and words, all of which are in the names of the tests that are
    meant. hangs is whether a test that does not end is how it shows.
    """

    number: int
    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    hangs: bool = False


def load() -> list[Breakage]:
    """The entries, numbered from 1."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8"))["breakage"]
    return [
        Breakage(number, **{**entry, "tests": tuple(entry["tests"])})
        for number, entry in enumerate(entries, 1)
    ]


def applied(breakage: Breakage, whole: str) -> str:
    """The broken file. Raises Fault unless old is there just once."""
    found = whole.count(breakage.old)
    if found != 1 or breakage.old == breakage.new:
        raise Fault(
            f"Breakage {breakage.number} ({breakage.promise}): old is {found} times in "
            f"{breakage.file}, and has to be there once and differ from new."
        )
    return whole.replace(breakage.old, breakage.new)


def files_of(breakage: Breakage) -> list[str]:
    """The files of its tests."""
    return [test.split()[0] for test in breakage.tests]


def selected(breakage: Breakage, collected: Iterable[str]) -> list[str]:
    """Those of pytest's node ids that are its tests. Raises Fault where one is not to be found."""
    ids = list(collected)
    chosen: list[str] = []
    for test in breakage.tests:
        file, *words = test.split()
        found = [i for i in ids if i.startswith(f"{file}::") and all(w in i for w in words)]
        if not found:
            raise Fault(f"Breakage {breakage.number} ({breakage.promise}): no test is {test!r}.")
        chosen += [i for i in found if i not in chosen]
    return chosen
