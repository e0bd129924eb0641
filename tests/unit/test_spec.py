# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase's specification: what parse() takes, gives back and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.phase import parse
from ansible.module_utils.pgrunbook.core.spec import (
    MAX_WORKERS,
    METHODS,
    SPEC_OPTIONS,
    STEERING,
    THRESHOLDS,
    Column,
    Index,
    Query,
    Spec,
    Table,
)
from ansible.module_utils.pgrunbook.core.window import (
    require_open_window,
    require_window_not_over,
    seconds_left,
    seconds_until_open,
    window_closed,
)
from ansible.module_utils.pgrunbook.ledger import todays_spec
from tests.unit.conftest import options, parsed

# A name has at most 63 bytes, and a character at most four of them.
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=15)
counts = st.integers(min_value=1, max_value=2**31)
thresholds = st.integers(min_value=0, max_value=2**31)
percentages = st.floats(min_value=0, max_value=100)
old_names = st.none() | names


@st.composite
def option_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Any options that parse() should take."""
    conversions = st.sampled_from([(None, None), ("text[]", "{a}[1]")])
    column = st.builds(
        lambda fields, conversion: {
            **fields,
            "converted_from": conversion[0],
            "using": conversion[1],
        },
        st.fixed_dictionaries(
            {
                "name": names,
                "type": names,
                "renamed_from": old_names,
                "source": names,
                "coverage_min": st.none() | percentages,
            }
        ),
        conversions,
    )
    index = st.fixed_dictionaries(
        {
            "name": names,
            "columns": st.lists(names, min_size=1),
            "renamed_from": old_names,
            "include": st.lists(names, max_size=2),
            "where": st.text(max_size=20),
            "method": st.sampled_from(METHODS),
        }
    )
    query = st.fixed_dictionaries(
        {"name": names, "snapshot": names, "baseline": names, "enforce": st.booleans()}
    )
    offsets = st.sampled_from(["+00:00", "-05:30", "Z"])

    def times(earliest: datetime, latest: datetime) -> st.SearchStrategy[str]:
        at = st.datetimes(earliest, latest)
        return st.builds(lambda at, offset: at.isoformat() + offset, at, offsets)

    parted = datetime(2100, 1, 2), datetime(2100, 1, 4)
    fields: dict[str, st.SearchStrategy[Any]] = {
        "phase": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
        "title": st.text(max_size=20),
        "schema": names,
        "table": names,
        "key": st.lists(names, min_size=1, max_size=3),
        "columns": st.lists(column, min_size=1, max_size=3, unique_by=lambda c: c["name"]),
        "source_schema": names,
        "source_table": names,
        "source_key": st.dictionaries(names, names, min_size=1, max_size=2),
        "indexes": st.lists(index, max_size=2),
        "acknowledged": st.lists(names, max_size=2),
        "acknowledged_drift": st.lists(names, max_size=2),
        "trusted_roles": st.lists(names, max_size=2),
        "superuser": st.sampled_from(["refuse", "warn"]),
        **dict.fromkeys(
            [
                "batch_rows",
                "batch_target_ms",
                "canary_rows",
                "slice_seconds",
                "lock_timeout_ms",
                "lock_tries",
            ],
            counts,
        ),
        "strategy": st.sampled_from(["auto", "interleaved", "ranges", "keyset"]),
        "workers": st.integers(1, MAX_WORKERS),
        "waive_rollback": st.booleans(),
        "unfillable_max": st.integers(min_value=0, max_value=10**9),
        **dict.fromkeys(THRESHOLDS, thresholds),
        "max_commit_ms": st.floats(min_value=0, max_value=1e6),
        "max_probe_ratio": st.floats(min_value=0, max_value=1e6),
        "probe_query": st.just("SELECT 1"),
        "max_replay_lag_seconds": st.floats(min_value=0, max_value=1e6),
        "window_start": st.just("") | times(datetime(1, 1, 1), parted[0]),
        "window_end": st.just("") | times(parted[1], datetime(9999, 1, 1)),
        "gates": st.dictionaries(names, st.sampled_from(["enforce", "warn"])),
        "coverage_min": percentages,
        "accuracy_min": percentages,
        "kept_values": st.sampled_from(["apart", "equal", "differ"]),
        "sample_rows": counts,
        "sample_seed": st.integers(min_value=-(2**63), max_value=2**63 - 1),
        "counts": st.sampled_from(["auto", "exact", "estimate"]),
        "speedup_min": st.floats(min_value=0.1, max_value=1000),
        "repetitions": counts,
        "index_advice": st.sampled_from(["estimate", "try", "keep"]),
        "signatures_min": st.integers(min_value=0, max_value=100),
        "operator_may_sign": st.booleans(),
        "queries": st.lists(query, max_size=2),
    }
    assert set(fields) == set(SPEC_OPTIONS)
    return {name: draw(strategy) for name, strategy in fields.items()}


@given(given_options=option_dicts())
def test_as_dict_is_what_parse_takes_even_after_json(given_options: dict[str, Any]) -> None:
    spec = parse(given_options)
    assert parse(spec.as_dict()) == spec
    assert parse(json.loads(json.dumps(spec.as_dict()))) == spec
    assert json.loads(json.dumps(spec.as_dict())) == given_options


def test_values_land_in_their_fields() -> None:
    spec = parsed(
        title="Nine",
        schema="sales",
        source_schema="crm",
        key=["id", "line"],
        indexes=[{"name": "ix", "columns": ["region", "id"]}],
        queries=[{"name": "q", "snapshot": "s", "baseline": "b"}],
        acknowledged=["f(integer)"],
    )
    assert spec.table == Table("sales", "orders") and str(spec.table) == "sales.orders"
    assert spec.source == Table("crm", "customers")
    assert spec.key == ("id", "line")
    assert spec.columns == (Column("region", "text", "geo->>'region'", "regions"),)
    assert spec.source_key == {"customer": "id"}
    assert spec.indexes == (Index("ix", ("region", "id"), None),)
    assert spec.queries == (Query("q", "s", "b", enforce=True),)
    assert spec.acknowledged == ("f(integer)",)
    assert (spec.phase, spec.title) == ("phase9", "Nine")


def test_a_phase_that_was_approved_before_there_were_gates_sets_none() -> None:
    old = options()
    del old["gates"]
    assert parse(old).gates == {}


def test_empty_old_name_is_none() -> None:
    columns = [{"name": "a", "type": "text", "renamed_from": "", "source": "b"}]
    indexes = [{"name": "i", "columns": ["a"], "renamed_from": ""}]
    spec = parsed(columns=columns, indexes=indexes)
    assert spec.columns[0].renamed_from is None
    assert spec.indexes[0].renamed_from is None


REFUSED = [
    *(
        (name, value)
        for name in (
            "workers",
            "batch_rows",
            "batch_target_ms",
            "canary_rows",
            "slice_seconds",
            "lock_timeout_ms",
            "lock_tries",
            "sample_rows",
            "repetitions",
        )
        for value in (0, -1)
    ),
    *(
        (name, value)
        for name in ("coverage_min", "accuracy_min")
        for value in (-0.1, 100.1, float("nan"))
    ),
    *((name, -1) for name in (*THRESHOLDS, *STEERING)),
    ("max_probe_ratio", 2.0),
    ("workers", MAX_WORKERS + 1),
    ("speedup_min", 0.0),
    ("speedup_min", -1.0),
    ("key", []),
    ("columns", []),
    ("source_key", {}),
    ("window_end", "four o'clock"),
    ("window_end", "2026-01-31T04:00:00"),
    ("window_start", "four o'clock"),
    ("window_start", "2026-01-31T04:00:00"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_every_refusal_names_the_variable_and_a_next_step(name: str, value: object) -> None:
    with pytest.raises(RunbookError) as refused:
        parsed(**{name: value})
    assert f"phase_{name} is" in str(refused.value)
    assert "Next step:" in str(refused.value)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_a_threshold_of_nothing_at_all_is_allowed(name: str) -> None:
    assert getattr(parsed(**{name: 0}), name) == 0


def test_as_many_workers_as_are_of_use_are_allowed() -> None:
    assert parsed(workers=MAX_WORKERS).workers == MAX_WORKERS


def test_a_table_without_a_key_goes_without_rollback() -> None:
    assert parsed(key=[], waive_rollback=True).key == ()
    with pytest.raises(RunbookError, match=r"phase_waive_rollback: true to go without rollback"):
        parsed(key=[], waive_rollback=False)


@pytest.mark.parametrize("name", ["", "../phase3", "a/b", ".hidden", "a b"])
def test_a_phase_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(RunbookError, match=r"phase_name is .* Next step:"):
        parsed(phase=name)


def test_a_column_listed_twice_is_refused() -> None:
    column = options()["columns"][0]
    with pytest.raises(RunbookError, match=f"phase_columns lists '{column['name']}' twice"):
        parsed(columns=[column, column])


def with_column(**changes: str) -> dict[str, Any]:
    return {"columns": [{**options()["columns"][0], **changes}]}


def with_index(**changes: Any) -> dict[str, Any]:
    return {"indexes": [{"name": "i", "columns": ["c"], **changes}]}


NAMED = [
    ("phase_schema", lambda name: {"schema": name}),
    ("phase_table", lambda name: {"table": name}),
    ("phase_source_schema", lambda name: {"source_schema": name}),
    ("phase_source_table", lambda name: {"source_table": name}),
    ("phase_key", lambda name: {"key": ["id", name]}),
    ("phase_source_key", lambda name: {"source_key": {name: "id"}}),
    ("phase_source_key", lambda name: {"source_key": {"customer": name}}),
    ("phase_columns", lambda name: with_column(name=name)),
    ("phase_columns", lambda name: with_column(renamed_from=name)),
    ("phase_indexes", lambda name: with_index(name=name)),
    ("phase_indexes", lambda name: with_index(columns=["c", name])),
    ("phase_indexes", lambda name: with_index(include=["c", name])),
    ("phase_indexes", lambda name: with_index(renamed_from=name)),
]


@pytest.mark.parametrize(("variable", "using"), NAMED)
def test_a_name_that_postgresql_would_cut_is_refused(
    variable: str, using: Callable[[str], dict[str, Any]]
) -> None:
    parsed(**using("ä" * 31 + "x"))
    with pytest.raises(RunbookError, match=f"^{variable} .* of 64 bytes.*Next step"):
        parsed(**using("ä" * 32))


@pytest.mark.parametrize("name", ["coverage_min", "accuracy_min"])
@pytest.mark.parametrize("value", [0, 100])
def test_the_ends_of_a_percentage_are_allowed(name: str, value: int) -> None:
    assert getattr(parsed(**{name: value}), name) == value


def test_a_time_without_zone_is_refused_with_one_that_would_do() -> None:
    with pytest.raises(RunbookError, match=r"write 2026-01-31T04:00:00\+00:00"):
        parsed(window_end="2026-01-31T04:00:00")


def at(seconds: float, zone_hours: int = 0) -> str:
    """A time some seconds from now, as a clock in a zone shows it."""
    time = datetime.now(UTC) + timedelta(seconds=seconds)
    local = (time + timedelta(hours=zone_hours)).replace(tzinfo=None)
    return f"{local.isoformat()}{zone_hours:+03d}:00"


def window(seconds: float, zone_hours: int = 0) -> Spec:
    return parsed(window_end=at(seconds, zone_hours))


def test_window_without_end_never_closes() -> None:
    spec = parsed(window_end="")
    assert window_closed(spec) is False
    require_open_window(spec)


@pytest.mark.parametrize("zone_hours", [-11, 0, 9])
def test_window_closes_at_its_end_whatever_the_zone(zone_hours: int) -> None:
    assert window_closed(window(-5, zone_hours)) is True
    assert window_closed(window(60, zone_hours)) is False


def test_a_closed_window_stops_the_run_and_says_which_variable() -> None:
    require_open_window(window(60))
    with pytest.raises(RunbookError, match=r"Nothing was changed.*phase_window_end"):
        require_open_window(window(-5))


@pytest.mark.parametrize("zone_hours", [-11, 0, 9])
def test_a_window_that_is_to_come_lets_plans_be_made_and_nothing_begin(zone_hours: int) -> None:
    ahead = replace(window(0), window_start=at(60, zone_hours), window_end=at(160))
    require_window_not_over(ahead)
    with pytest.raises(RunbookError, match=r"window opens at .*Nothing was changed.*Next step"):
        require_open_window(ahead)
    assert seconds_until_open(ahead) == pytest.approx(60, abs=5)
    assert seconds_left(ahead) == pytest.approx(100, abs=0.01), "from its start"
    begun = replace(ahead, window_start=at(-60, zone_hours))
    require_open_window(begun)
    assert seconds_until_open(begun) == 0
    assert seconds_left(begun) == pytest.approx(160, abs=5), "from now"


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_window_that_ends_before_it_opens_is_refused(seconds: int) -> None:
    start = datetime(2026, 1, 31, 4, 0, seconds, tzinfo=UTC)
    with pytest.raises(RunbookError, match=r"phase_window_start is .* not before .*Next step"):
        parsed(window_start=start.isoformat(), window_end="2026-01-31T05:00:00+01:00")


def test_options_has_every_option_that_is_not_optional() -> None:
    """The helper stands for Ansible, which fills in defaults and requires the rest."""
    assert set(options()) == set(SPEC_OPTIONS)


def test_what_an_earlier_version_stored_has_the_defaults_of_what_it_did_not_know() -> None:
    stored = parsed().as_dict()
    earlier = {name: value for name, value in stored.items() if name != "index_advice"}
    assert todays_spec(earlier).index_advice == "estimate"
    assert todays_spec(earlier).as_dict() == stored


@pytest.mark.parametrize("inside", ["", "columns", "queries", "indexes"])
def test_what_a_newer_version_stored_is_refused_by_name(inside: str) -> None:
    stored = parsed().as_dict()
    newer = {**stored, "colour": 1}
    if inside:
        newer = {**stored, inside: [*stored[inside], {"colour": 1}]}
    with pytest.raises(RunbookError, match=r"colour.*newer.*Next step"):
        todays_spec(newer)


def test_the_order_of_a_source_key_makes_no_difference() -> None:
    """The ledger keeps the approved specification as jsonb, which has an order of its own."""
    keys = {"bb": "x", "c": "y", "a": "z"}
    turned = dict(reversed(keys.items()))
    found = [parsed(source_key=of).source_key for of in (keys, turned)]
    assert list(found[0].items()) == list(found[1].items())
