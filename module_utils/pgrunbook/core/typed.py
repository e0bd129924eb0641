# SPDX-License-Identifier: GPL-3.0-or-later
"""How a person approves: they type the digits of a hash that are named."""

from __future__ import annotations

from collections.abc import Callable

TYPED = 8  # digits of the hash that a person types
TRIES = 3
DECLINED = ("", "n", "no", "stop", "q", "quit", "abort")


def ask(
    token: str,
    read: Callable[[str], str],
    say: Callable[[str], None],
    gives_up: Callable[[str], bool] = lambda answer: False,
) -> str:
    """What a person answered last when they were asked for the token: the token itself, or what
    declines, or a third mistake. read shows a prompt and gives what was typed; gives_up tells an
    answer after which nothing else is asked."""
    answer = ""
    for left in reversed(range(TRIES)):
        answer = read(f"Type {token} to approve, or no to stop:")
        if answer == token or answer.lower() in DECLINED or not left or gives_up(answer):
            break
        tries = f"{left} more {'try' if left == 1 else 'tries'}"
        say(f"That is not {token}: {tries}.")
    return answer
