# SPDX-License-Identifier: GPL-3.0-or-later
"""A run on the table: after each slice every row is compared with what one UPDATE would have made
of it, and with the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill import backfill, rollback
from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core import spec
from ansible.module_utils.pgrunbook.core.connection import Connection
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.ledger.taken_back import MAX_LEFT_ALONE
from tests.integration.conftest import Database
from tests.integration.lab.shapes import SCHEMA, Example, Script, Slice, Table, TakeOver, Way
from tests.integration.lab.table import Entry, Lab, Stored, laboratory
from tests.integration.steps import Module, Result, Steps


class Run:
    """A run on a lab's table, each of whose slices is looked at closely."""

    def __init__(
        self, lab: Lab, module: Module, database: Database, conn: Connection, way: Way, canary: int
    ) -> None:
        self.lab, self.conn = lab, conn
        self.steps = Steps(module, database.login, _phase(lab.shape, way, canary))

    def begin(self) -> None:
        """Plan and approve, as the first execution or as one that takes over."""
        self.steps.plan()
        self.steps.approve("plan")
        self.steps.approve("backfill")

    def begin_rollback(self) -> None:
        self.steps.plan(rollback_of=self.steps.planned["run"]["id"])
        self.steps.approve("rollback")

    def end(self, *, died: bool = False) -> None:
        """The execution that is at work works no more."""
        if died:
            self.lab.app.execute("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
        else:
            self.steps.do("run", state="failed")

    def fill_canary(self) -> Result:
        return self._filled(lambda: self.steps.backfill(canary=True))

    def fill(self) -> Result:
        return self._filled(
            lambda: plain(backfill.run_slice(self.conn, self._spec(), self._run(), canary=False))
        )

    def fill_the_rest(self) -> None:
        """Afterwards nothing is eligible. The last pass may come too early for what the
        application did; then the next execution fills that."""
        result = self._filled(self.steps.backfill)
        if self.lab.rows() != self.lab.one_update():
            assert result["sweep"] == backfill.MAX_ROUNDS - 1
            self.end()
            self.begin()
            self._filled(self.steps.backfill)
        assert self.lab.rows() == self.lab.one_update()

    def give_back(self) -> Result:
        return self._given_back(
            lambda: plain(rollback.revert_slice(self.conn, self._spec(), self._run(), dry=False))
        )

    def give_back_the_rest(self) -> Result:
        result = self._given_back(lambda: self.steps.backfill(state="reverted"))
        assert result["rows_done"] == 0
        assert all(batch.reverted for batch in self.lab.batches().values())
        return result

    def _spec(self) -> spec.Spec:
        return replace(phase_module.parse(self.steps.spec), slice_seconds=0)

    def _run(self) -> ledger.Run:
        return ledger.Run(**self.steps.planned["run"])

    def _filled(self, work: Callable[[], Result]) -> Result:
        """Do the work. Each row that it changed is now as one UPDATE would have made it, and has
        one new entry in the journal; all others are as they were."""
        before, wanted, known = self.lab.rows(), self.lab.one_update(), self.lab.batches()
        result = work()
        after, batches = self.lab.rows(), self.lab.batches()
        new = [entry for id, b in batches.items() if id not in known for entry in b.journal]
        journal = {entry.number: entry for entry in new}
        assert len(journal) == len(new), "a row is twice in the journal of one slice"
        assert after.keys() == before.keys()
        for number, row in after.items():
            if number in journal:
                assert row == wanted[number]
                assert journal[number] == Entry(number, row.key, gained(before[number], row))
            else:
                assert row == before[number], "changed, and not in the journal"
        assert result["rows_done"] == sum(len(b.journal) for b in batches.values())
        return result

    def _given_back(self, work: Callable[[], Result]) -> Result:
        """Do the work. Each row whose batch was taken back has lost what the journal says, or it
        is listed as left alone because it does not hold that any more; all others are as they
        were. A row with more than one entry is given back with the latest of them."""
        before, known = self.lab.rows(), self.lab.batches()
        result = work()
        after, batches = self.lab.rows(), self.lab.batches()
        taken = [b for id, b in batches.items() if b.reverted and not known[id].reverted]
        entries = [entry for b in taken for entry in b.journal]
        left = {entry for b in taken for entry in b.left_alone}
        times = Counter(entry.number for b in batches.values() for entry in b.journal)
        assert after.keys() == before.keys()
        for number in after.keys() - {entry.number for entry in entries}:
            assert after[number] == before[number], "given back, and not in the journal"
        for entry in entries:
            row = before.get(entry.number)
            if times[entry.number] > 1:
                continue
            if row is None:
                assert entry in left, "deleted, and not listed"
            else:
                wanted = taken_back(row, entry)
                assert (entry in left) is (wanted is None)
                assert after[entry.number] == (wanted or row)
        everywhere = sum(len(b.left_alone) for b in batches.values())
        assert result["rows_left_alone"] == everywhere
        assert len(result["left_alone"]) == min(everywhere, MAX_LEFT_ALONE)
        return result


def gained(before: Stored, after: Stored) -> tuple[str | None, ...]:
    """The values that a row has gained, as an entry of the journal has them."""
    pairs = list(zip(before.values, after.values, strict=True))
    assert before != after and all(old in (None, new) for old, new in pairs)
    return tuple(new if old is None else None for old, new in pairs)


def taken_back(row: Stored, entry: Entry) -> Stored | None:
    """The row without the values of the entry; None if it does not hold them all any more."""
    pairs = list(zip(row.values, entry.written, strict=True))
    if row.key != entry.key or any(w not in (None, v) for v, w in pairs):
        return None
    return replace(row, values=tuple(v if w is None else None for v, w in pairs))


def _phase(table: Table, way: Way, canary_rows: int) -> dict[str, Any]:
    """The option spec of the modules."""
    defaults = {name: o["default"] for name, o in spec.SPEC_OPTIONS.items() if "default" in o}
    return {
        **defaults,
        **way.__dict__,
        "phase": "lab",
        "schema": SCHEMA,
        "table": table.name,
        "key": [k.name for k in table.key],
        "columns": [
            {"name": c.name, "type": c.type, "source": _quoted(s.name)}
            for c, s in zip(table.columns, table.source_columns, strict=True)
        ],
        "source_schema": SCHEMA,
        "source_table": table.source_name,
        "source_key": {
            r.name: k.name for r, k in zip(table.reference, table.source_key, strict=True)
        },
        "canary_rows": canary_rows,
        "max_lock_waiters": 1000,
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def play(run: Run, script: Script, work: Callable[[], Result], begin: Callable[[], None]) -> None:
    for part in script:
        match part:
            case Slice():
                work()
            case TakeOver(died, way):
                run.end(died=died)
                run.steps.spec |= way.__dict__
                begin()
            case change:
                run.lab.apply(change)


@contextmanager
def filled_canary(database: Database, module: Module, example: Example) -> Iterator[Run]:
    """A run whose canary is done and whose backfill is approved."""
    with laboratory(database, example.table) as (lab, conn):
        run = Run(lab, module, database, conn, example.way, example.canary_rows)
        run.begin()
        eligible = run.steps.planned["counts"]["rows_eligible"]
        before, wanted = lab.rows(), lab.one_update()
        assert eligible == sum(row != wanted[number] for number, row in before.items())
        result = run.fill_canary()
        assert result["rows_done"] == min(example.canary_rows, eligible)
        yield run


def assert_filled_once(lab: Lab) -> None:
    """Unless the application took the value away again."""
    times = Counter(
        (entry.number, column)
        for batch in lab.batches().values()
        for entry in batch.journal
        for column, value in enumerate(entry.written)
        if value is not None and entry.number not in lab.touched
    )
    assert set(times.values()) <= {1}


def assert_untouched_rows_are_back(lab: Lab) -> None:
    for number, row in lab.rows().items():
        if number not in lab.touched:
            assert row.values == lab.before[number].values
