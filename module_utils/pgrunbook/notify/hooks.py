# SPDX-License-Identifier: GPL-3.0-or-later
"""What runbook_notify says: which commands and URLs are told of which events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..core.errors import RunbookError
from .happened import NOTIFIED

KEYS = ("command", "url", "events", "timeout", "headers", "throttled_after")
TIMEOUT, LONGEST_TIMEOUT = 5.0, 30.0  # seconds
THROTTLED_AFTER = 60.0  # seconds


@dataclass(frozen=True)
class Hook:
    """A command, or a URL, that is told of events. timeout is in seconds; of throttling it is told
    once that has lasted for throttled_after seconds. URL, headers and arguments may be secrets."""

    number: int
    command: tuple[str, ...]
    url: str
    events: tuple[str, ...]
    timeout: float
    headers: tuple[tuple[str, str], ...]
    throttled_after: float

    def __str__(self) -> str:
        """What may be shown of it: the program, or the host."""
        if self.command:
            return f"runbook_notify[{self.number}] (command {self.command[0]})"
        parts = urlsplit(self.url)
        return f"runbook_notify[{self.number}] ({parts.scheme}://{parts.hostname})"


def hooks(given: Any) -> tuple[Hook, ...]:
    """The hooks of runbook_notify. Raises RunbookError that names a bad entry by its number, from 0
    on, and shows nothing of it that may be a secret."""
    if not isinstance(given, list | tuple):
        raise RunbookError(
            "runbook_notify is no list. Next step: make it one, with a command or a url in each "
            "entry; docs/notifications.md shows how."
        )
    return tuple(_hook(number, entry) for number, entry in enumerate(given))


def _hook(number: int, entry: Any) -> Hook:
    if not isinstance(entry, Mapping):
        raise _bad(number, "is no mapping", "write command: or url: in it")
    for key in entry:
        if key not in KEYS:
            raise _bad(number, f"has the key {str(key)!r}", f"the keys are {', '.join(KEYS)}")
    if ("command" in entry) == ("url" in entry):
        has = "both command and url" if "url" in entry else "neither command nor url"
        raise _bad(number, f"has {has}", "give it one of them")
    return Hook(
        number=number,
        command=_command(number, entry["command"]) if "command" in entry else (),
        url=_url(number, entry["url"]) if "url" in entry else "",
        events=_events(number, entry.get("events", NOTIFIED)),
        timeout=_seconds(number, "timeout", entry.get("timeout", TIMEOUT), LONGEST_TIMEOUT),
        headers=_headers(number, entry.get("headers", {})),
        throttled_after=_seconds(
            number, "throttled_after", entry.get("throttled_after", THROTTLED_AFTER), None
        ),
    )


def _command(number: int, given: Any) -> tuple[str, ...]:
    if not _are_texts(given) or not given or not given[0]:
        raise _bad(
            number,
            "has a command that is no list of texts",
            "write the program and each argument as an element; no shell reads it",
        )
    return tuple(given)


def _url(number: int, given: Any) -> str:
    try:
        parts = urlsplit(given if isinstance(given, str) else "")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and given.isprintable()
        parts.port  # noqa: B018  (raises where it is no number)
    except ValueError:
        sound = False
    if not sound or parts.username is not None or " " in given:
        raise _bad(
            number,
            "has a url that is none of http or https, or has a user in it",
            "write https://host/path; a token can be in headers",
        )
    return str(given)


def _events(number: int, given: Any) -> tuple[str, ...]:
    if not _are_texts(given):
        raise _bad(number, "has events that are no list", f"name some of {', '.join(NOTIFIED)}")
    for kind in given:
        if kind not in NOTIFIED:
            raise _bad(number, f"names the event {kind!r}", f"the events are {', '.join(NOTIFIED)}")
    return tuple(given)


def _seconds(number: int, key: str, given: Any, most: float | None) -> float:
    try:
        seconds = float(given)
    except (TypeError, ValueError):
        seconds = -1.0
    if isinstance(given, bool) or not 0 < seconds <= (most or 1e9):
        bound = f"up to {most:g}" if most else "above 0"
        raise _bad(number, f"has a {key} that is none", f"give it in seconds, {bound}")
    return seconds


def _headers(number: int, given: Any) -> tuple[tuple[str, str], ...]:
    sound = isinstance(given, Mapping) and all(
        isinstance(text, str) and text.isascii() and text.isprintable()
        for pair in given.items()
        for text in pair
    )
    if not sound:
        raise _bad(number, "has headers that are no mapping of texts in ASCII", "write name: value")
    return tuple(given.items())


def _are_texts(given: Any) -> bool:
    return (
        isinstance(given, Iterable)
        and not isinstance(given, str | Mapping)
        and all(isinstance(each, str) for each in given)
    )


def _bad(number: int, what: str, how: str) -> RunbookError:
    return RunbookError(
        f"Entry {number} of runbook_notify (the first one is 0) {what}. Nothing was done. "
        f"Next step: {how}; docs/notifications.md has it all."
    )
