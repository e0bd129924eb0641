# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell a NO-GO for slow queries, which the reference indexes alone bring, from others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def wrong(report: dict[str, Any]) -> str:
    """Why a report is not that NO-GO, in a sentence; empty where it is: the run came to its end,
    and what failed are gates of queries whose results are equal."""
    if report["error"]:
        return f"The run was broken off: {report['error']}"
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    if not failed:
        return f"The verdict is {report['verdict']}: every query meets its speed-up."
    others = [
        check["title"]
        for check in failed
        if not check["id"].startswith("query:") or not check["evidence"]["equal"]
    ]
    return f"Not only a speed-up was missed: {'; '.join(others)}" if others else ""


def main(arguments: Sequence[str]) -> int:
    """Read a report.json; print what is wrong with it and return 1, or return 0."""
    path = Path(arguments[0])
    if not path.exists():
        print(f"There is no {path}: the run ended before its report.", file=sys.stderr)
        return 1
    told = wrong(json.loads(path.read_text(encoding="utf-8")))
    if told:
        print(told, file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
