# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for every table, whatever the application does meanwhile and wherever a run stops.

Hypothesis draws a table with its source, the settings of the phase, and a script: slices of the
backfill, takeovers by another execution, and what the application does between them. After each
slice every row is compared with what one UPDATE would have made of it, and with the journal.
"""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.conftest import Database
from tests.integration.lab.application import Application
from tests.integration.lab.run import (
    assert_filled_once,
    assert_untouched_rows_are_back,
    filled_canary,
    play,
)
from tests.integration.lab.shapes import Example
from tests.integration.lab.strategies import examples
from tests.integration.steps import Module

FOR_CI = settings(
    deadline=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    derandomize=True,
    print_blob=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@settings(FOR_CI, max_examples=16)
@given(example=examples(busy=False))
def test_ends_as_one_update_and_goes_back_to_the_start(
    database: Database, module: Module, example: Example
) -> None:
    """Wherever it stops, and whoever goes on."""
    with filled_canary(database, module, example) as run:
        play(run, example.there, run.fill, run.begin)
        run.fill_the_rest()
        assert_filled_once(run.lab)

        run.end()
        run.begin_rollback()
        play(run, example.back, run.give_back, run.begin_rollback)
        assert run.give_back_the_rest()["rows_left_alone"] == 0
        assert run.lab.rows() == run.lab.before


@settings(FOR_CI, max_examples=12)
@given(example=examples(busy=True))
def test_leaves_alone_what_the_application_does_between_its_slices(
    database: Database, module: Module, example: Example
) -> None:
    with filled_canary(database, module, example) as run:
        play(run, example.there, run.fill, run.begin)
        run.fill_the_rest()
        assert_filled_once(run.lab)

        run.end()
        run.begin_rollback()
        play(run, example.back, run.give_back, run.begin_rollback)
        run.give_back_the_rest()
        assert_untouched_rows_are_back(run.lab)


@settings(FOR_CI, max_examples=4, phases=[Phase.generate])
@given(example=examples(busy=False), seed=st.integers(0, 2**32))
def test_works_beside_a_busy_application(
    database: Database, module: Module, example: Example, seed: int
) -> None:
    """The scripts are not used. What happens depends on the moment, so nothing is shrunk."""
    with filled_canary(database, module, example) as run:
        application = Application(run.lab, seed, 60)
        application.start()
        run.steps.backfill()
        application.check()
        run.fill_the_rest()
        application.check()
        assert_filled_once(run.lab)

        run.end()
        run.begin_rollback()
        application = Application(run.lab, seed + 1, 60)
        application.start()
        run.steps.backfill(state="reverted")
        application.check()
        assert_untouched_rows_are_back(run.lab)
        touched = {e.number for b in run.lab.batches().values() for e in b.left_alone}
        assert touched <= run.lab.touched
