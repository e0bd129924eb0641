# SPDX-License-Identifier: GPL-3.0-or-later
"""What the environment variables of `make bench` say, checked once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.data import MAX_SESSIONS, MIN_SESSIONS

PROFILES = ("production", "defaults")

MEASURE = {
    "SIZES": "10000,100000,300000",
    "WAYS": "one-update,keyset,skip-locked,paused,orm,engine-1,engine-2",
}
SCALE = {"SIZES": "100000,1000000,4000000,16000000", "WAYS": "engine-1"}
"""The defaults that the commands "measure" and "sizes" do not have in common."""


@dataclass(frozen=True)
class Settings:
    """One benchmark: sizes are rows of session_summaries, orm_share is a part of 1."""

    sessions: int
    sizes: tuple[int, ...]
    ways: tuple[str, ...]
    repeat: int
    profile: str
    baseline_seconds: int
    orm_share: float
    out: Path
    folder: Path


def read(
    defaults: Mapping[str, str] = MEASURE, environment: Mapping[str, str] = os.environ
) -> Settings:
    """The settings that the environment asks for. Raises ValueError where one makes no sense.

    defaults are MEASURE or SCALE.
    """

    def text(name: str, default: str = "") -> str:
        return environment.get(name) or defaults.get(name) or default

    def number(name: str, default: str) -> int:
        return _whole(name, text(name, default))

    settings = Settings(
        sessions=number("SESSIONS", "1682827"),
        sizes=tuple(_whole("SIZES", size) for size in _words(text("SIZES"))),
        ways=_words(text("WAYS")),
        repeat=number("REPEAT", "1"),
        profile=text("SETTINGS", "production"),
        baseline_seconds=number("BASELINE_SECONDS", "60"),
        orm_share=float(text("ORM_SHARE", "0.02")),
        out=Path(text("OUT", "docs")),
        folder=Path(text("BENCH_DIR", ".bench")),
    )
    _check(settings)
    return settings


def _whole(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{name} takes whole numbers, not {value!r}")
    return int(value)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def _check(settings: Settings) -> None:
    for rows in (settings.sessions, *settings.sizes):
        if not MIN_SESSIONS <= rows <= MAX_SESSIONS:
            raise ValueError(
                f"SESSIONS and SIZES go from {MIN_SESSIONS} to {MAX_SESSIONS}, not {rows}"
            )
    if settings.repeat < 1 or settings.baseline_seconds < 1:
        raise ValueError("REPEAT and BASELINE_SECONDS must be at least 1")
    if settings.profile not in PROFILES:
        raise ValueError(f"SETTINGS is one of {', '.join(PROFILES)}, not {settings.profile!r}")
    if not 0 < settings.orm_share <= 1:
        raise ValueError("ORM_SHARE is more than 0 and at most 1")
