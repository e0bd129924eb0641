# SPDX-License-Identifier: GPL-3.0-or-later
"""An application that is at work on the table meanwhile."""

from __future__ import annotations

import random
import threading
import time

from tests.integration.lab.shapes import VALUES, ChangeSource, Insert, Row
from tests.integration.lab.table import Lab


class Application(threading.Thread):
    """Does random things to single rows, and remembers what it wrote. A person would call it busy,
    but it leaves the engine some time."""

    def __init__(self, lab: Lab, seed: int, transactions: int) -> None:
        super().__init__()
        self.lab, self.transactions = lab, transactions
        self.random = random.Random(seed)
        self.alive = set(lab.rows())
        self.notes = {n: int(row.rest[0] or 0) for n, row in lab.rows().items()}
        self.written: dict[tuple[int, int], str | None] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        actions = [
            *(self.note, self.note_some, self.write, self.write, self.change_key),
            *(self.insert, self.delete, self.change_source),
        ]
        try:
            for _ in range(self.transactions):
                self.random.choice(actions)()
                time.sleep(self.random.choice([0, 0.001, 0.005]))
        except BaseException as error:
            self.error = error

    def check(self) -> None:
        """Everything is as the application left it, apart from values that were NULL, and from
        those that it wrote again just as the run had, which a rollback cannot tell."""
        self.join()
        if self.error:
            raise self.error
        rows = self.lab.rows()
        assert rows.keys() == self.alive
        assert {n: int(row.rest[0] or 0) for n, row in rows.items()} == self.notes
        given_back = {
            (entry.number, column, value)
            for batch in self.lab.batches().values()
            for entry in batch.journal * batch.reverted
            for column, value in enumerate(entry.written)
        }
        for (number, column), value in self.written.items():
            stored = rows[number].values[column] if number in rows else value
            assert stored == value or (number, column, value) in given_back

    def one(self) -> int:
        return self.random.choice(sorted(self.alive) or [-1])

    def note(self) -> None:
        number = self.one()
        if self.lab.add_note(number):
            self.notes[number] += 1

    def note_some(self) -> None:
        """In one transaction, which takes a moment and may be rolled back."""
        numbers = sorted({self.one() for _ in range(8)} - {-1})
        commit = self.random.random() < 0.7
        with self.lab.app.transaction(force_rollback=not commit):
            for number in numbers:
                self.lab.add_note(number)
            time.sleep(self.random.random() / 50)
        for number in numbers * commit:
            self.notes[number] += 1

    def write(self) -> None:
        number, column = self.one(), self.random.randrange(len(self.lab.shape.columns))
        value = self.random.choice(VALUES[self.lab.shape.columns[column].type])
        if number >= 0:
            self.written[number, column] = self.lab.write(number, column, value)

    def change_key(self) -> None:
        self.lab.change_key(self.one())

    def insert(self) -> None:
        nothing = (None,) * len(self.lab.shape.columns)
        self.lab.apply(Insert(Row(self.random.randrange(6), nothing), 1))
        number = max(self.lab.before)
        self.alive.add(number)
        self.notes[number] = 0

    def delete(self) -> None:
        number = self.one()
        self.lab.delete(number)
        self.alive -= {number}
        self.notes.pop(number, None)

    def change_source(self) -> None:
        values = tuple(self.random.choice([None, *VALUES[c.type]]) for c in self.lab.shape.columns)
        self.lab.apply(ChangeSource(self.random.randrange(6), values))
