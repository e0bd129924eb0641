# SPDX-License-Identifier: GPL-3.0-or-later
"""What is proposed of plain values, and how it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.core.values import plain, read
from ansible.module_utils.pgrunbook.drift.expected import Expected, ExpectedIndex, Renamed
from ansible.module_utils.pgrunbook.proposal import Proposal, files, make, paths, render
from ansible.module_utils.pgrunbook.proposal import text as told
from ansible.module_utils.pgrunbook.proposal.casts import expression
from ansible.module_utils.pgrunbook.proposal.likeness import LIKELY, fills, refers
from ansible.module_utils.pgrunbook.proposal.seen import (
    ForeignKey,
    Seen,
    SeenColumn,
    SeenIndex,
    SeenTable,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("snapshot_asn", "current_asn"),
        ("snapshot_country", "geo_country"),
        ("snapshot_ip_types", "ip_type"),
        ("customerRegion", "region"),
        ("order_name", "name"),
        ("region", "customer_region"),
        ("Price Class", "price_classes"),
        ("tax_zonne", "tax_zone"),
    ],
)
def test_names_that_people_give_to_a_copy(ours: str, theirs: str) -> None:
    assert fills(ours, theirs) >= LIKELY


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("created_at", "enrichment_updated_at"),
        ("vt_flagged", "is_scanner"),
        ("order_name", "customer_name"),
        ("price_1", "price_2"),
        ("region", "religion_code"),
        ("event_count", "session_count"),
        ("", "x"),
    ],
)
def test_names_of_different_things(ours: str, theirs: str) -> None:
    assert fills(ours, theirs) < LIKELY


@pytest.mark.parametrize(
    ("ours", "theirs", "source"),
    [
        ("customer_id", "id", "customers"),
        ("billing_customer_id", "id", "customers"),
        ("customer", "id", "Customers"),
        ("region_code", "region_code", "regions"),
        ("company_id", "id", "companies"),
    ],
)
def test_names_of_a_reference(ours: str, theirs: str, source: str) -> None:
    assert refers(ours, theirs, source) >= LIKELY


def test_the_likelier_reference_comes_first() -> None:
    assert refers("customer_id", "id", "customers") > refers("payer_customer_id", "id", "customers")
    assert refers("order_id", "id", "customers") < LIKELY


def column(name: str, type_: str = "text", oid: int = 25, **more: Any) -> SeenColumn:
    return SeenColumn(name, type_, type_.partition("(")[0], oid, name, **more)


@pytest.mark.parametrize(
    ("theirs", "ours", "sql"),
    [
        ("integer", "integer", "x"),
        ("bigint", "smallint", "x"),  # a dry run counts what does not fit
        ("text", "character varying(2)", "x"),
        ("integer", "text", "x::text"),
        ("uuid", "character varying(40)", "x::text"),
        ("numeric", "numeric(10,2)", "x"),
        ("timestamp with time zone", "text", ""),
        ("timestamp without time zone", "timestamp with time zone", ""),
        ("text[]", "text", ""),
        ("text", "integer", ""),
        ("jsonb", "text", ""),
    ],
)
def test_a_cast_only_where_it_is_sure(theirs: str, ours: str, sql: str) -> None:
    found = expression(column("x", theirs, 1), ours, ours.partition("(")[0], 2, frozenset())
    assert found.sql == sql
    assert bool(found.loses) == (not sql or ours == "numeric(10,2)")


def test_an_implicit_cast_needs_none_written() -> None:
    casts = frozenset({(1, 2)})
    assert expression(column("x", "integer", 1), "numeric", "numeric", 2, casts).sql == "x"
    zoned = "timestamp with time zone"
    assert expression(column("x", "date", 1), zoned, zoned, 2, casts).sql == ""


PRIMARY = SeenIndex("pk", ("id",), unique=True, primary=True, not_null=True)


def seen(**changes: Any) -> Seen:
    """Orders, of which region is empty, and their customers."""
    ours = [
        column("id", "integer", 23, not_null=True, nulls=0.0, distinct=500.0),
        column("customer_id", "integer", 23, nulls=0.0, distinct=50.0),
        column("regions", nulls=1.0, distinct=0.0),
    ]
    theirs = [column("id", "integer", 23, not_null=True), column("region")]
    orders = SeenTable(Table("public", "orders"), 500, {c.name: c for c in ours}, (PRIMARY,))
    customers = SeenTable(Table("public", "customers"), 50, {c.name: c for c in theirs}, (PRIMARY,))
    return replace(Seen(orders, customers), **changes)


def with_columns(of: SeenTable, *columns: SeenColumn) -> SeenTable:
    return replace(of, columns={**of.columns, **{c.name: c for c in columns}})


def with_indexes(of: SeenTable, *indexes: SeenIndex) -> SeenTable:
    return replace(of, indexes=indexes)


def test_what_is_guessed_is_marked() -> None:
    found = make.guess(seen())
    assert found.key.columns == ("id",) and found.source_key.pairs == {"customer_id": "id"}
    assert [n.kind for n in found.key.notes] == ["known"]
    assert [n.kind for n in found.source_key.notes] == ["guessed"]
    (regions,) = found.columns
    assert (regions.name, regions.source, regions.renamed_from) == ("regions", "region", "")
    assert [n.kind for n in regions.notes] == ["guessed"]
    written = render.phase_file(found, "orders", "", templated=False)
    assert "  # guessed: NULL in every row, named like region (100 %).\n" in written
    assert "# guessed: there is no foreign key; the names and types match, and pk is" in written


def test_a_foreign_key_is_known() -> None:
    found = make.guess(seen(foreign_keys=(ForeignKey("fk", {"customer_id": "id"}),)))
    assert [n.kind for n in found.source_key.notes] == ["known"]


def test_two_constraints_on_the_same_columns_are_one_reference() -> None:
    both = (ForeignKey("a", {"customer_id": "id"}), ForeignKey("b", {"customer_id": "id"}))
    assert make.guess(seen(foreign_keys=both)).source_key.pairs == {"customer_id": "id"}


def test_two_columns_that_refer_alike_are_left_to_a_person() -> None:
    orders = with_columns(
        seen().table, column("Customer_ID", "integer", 23, nulls=0.0, distinct=40.0)
    )
    found = make.guess(seen(table=orders)).source_key
    assert not found.pairs and len(found.choices) == 2
    assert [n.kind for n in found.notes] == ["todo"]


def test_a_column_with_more_values_than_the_source_has_rows_refers_to_none() -> None:
    many = column("customer_id", "integer", 23, nulls=0.0, distinct=400.0)
    assert not make.guess(seen(table=with_columns(seen().table, many))).source_key.pairs


def test_without_a_primary_key_the_narrowest_unique_index_is_guessed() -> None:
    wide = SeenIndex("a", ("id", "customer_id"), unique=True, not_null=True)
    narrow = SeenIndex("b", ("customer_id",), unique=True, not_null=True)
    with_null = SeenIndex("c", ("regions",), unique=True)
    partial = SeenIndex("d", ("id",), unique=True, not_null=True, plain=False)
    found = make.guess(seen(table=with_indexes(seen().table, wide, with_null, partial, narrow))).key
    assert found.columns == ("customer_id",) and [n.kind for n in found.notes] == ["guessed"]
    assert "others are a" in found.notes[0].said


def test_two_source_columns_that_fit_alike_are_left_to_a_person() -> None:
    customers = with_columns(seen().source, column("home_region"), column("work_region"))
    customers = replace(
        customers, columns={n: c for n, c in customers.columns.items() if n != "region"}
    )
    (regions,) = make.guess(seen(source=customers)).columns
    assert regions.source == "" and [n.kind for n in regions.notes] == ["todo"]
    assert "home_region" in regions.notes[0].said and "work_region" in regions.notes[0].said


def test_of_two_columns_that_look_like_one_the_other_is_named() -> None:
    two = with_columns(seen().table, column("home_region", nulls=1.0, distinct=0.0))
    found = make.guess(seen(table=two))
    assert [c.name for c in found.columns] == ["regions"]
    (note,) = [n for n in found.notes if "home_region" in n.said]
    assert note.kind == "unknown" and "looks like region too" in note.said


def test_a_renamed_column_has_its_models_name_and_its_likeness() -> None:
    index = ExpectedIndex("ix", ("region",), (), "btree", "ix_regions", True, "(region)")
    unique = ExpectedIndex("u", ("region",), (), "btree", "", False, "UNIQUE (region)")
    expected = Expected(
        ("id", "customer_id", "region", "tier"),
        {"region": "text"},
        (Renamed("regions", "region", 0.92),),
        ("tier",),
        (index, unique),
    )
    found = make.guess(seen(expected=expected))
    (region,) = found.columns
    assert (region.name, region.source, region.renamed_from) == ("region", "region", "regions")
    assert "92 % alike" in region.notes[0].said
    assert [(i.name, i.renamed_from) for i in found.indexes] == [("ix", "ix_regions")]
    said = [n.said for n in found.notes]
    assert any("column tier of the models is not in public.orders" in s for s in said)
    assert any("index u of the models" in s for s in said)


def test_a_type_that_the_models_have_otherwise_is_left_to_a_person() -> None:
    expected = Expected(("regions",), {"regions": "integer"}, (), (), ())
    (regions,) = make.guess(seen(expected=expected)).columns
    assert regions.type == "integer" and "todo" in [n.kind for n in regions.notes]
    longer = Expected(("regions",), {"regions": "character varying(9)"}, (), (), ())
    (regions,) = make.guess(seen(expected=longer)).columns
    assert regions.type == "text" and "unknown" in [n.kind for n in regions.notes]


def test_indexes_that_are_there_are_named_so_that_a_run_can_drop_them() -> None:
    kept = SeenIndex("ix", ("regions",), replaceable=True, where="id > 1", method="hash")
    other = SeenIndex("ix_c", ("customer_id",), replaceable=True)
    fixed = SeenIndex("u", ("regions",), unique=True)
    found = make.guess(seen(table=with_indexes(seen().table, PRIMARY, kept, other, fixed)))
    assert [(i.name, i.where, i.method) for i in found.indexes] == [("ix", "id > 1", "hash")]


def test_it_comes_back_from_json_as_it_was() -> None:
    found = make.guess(seen())
    assert read(Proposal, plain(found)) == found


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40
) | st.sampled_from(
    [
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{#",
        "a: b",
        "# x",
        "- x",
        "yes",
        "null",
        "1e3",
        "0x1F",
        "~",
        "!a",
        'it\'s "so"',
        "\n",
        "a\tb",
        " x ",
        "\u202e",
        "\u2028",
        "\x85",
        "\ufeff",
        "*a",
        "&a",
        "TO DO",
        "{{{",
    ]
)


@given(one=NAMES, other=NAMES)
@settings(max_examples=150)
def test_any_name_comes_out_of_ansible_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, one: str, other: str
) -> None:
    found = make.guess(seen())
    table = Table(one, other)
    pairs = replace(found.source_key, pairs={one: other})
    filled = tuple(
        replace(
            c,
            name=one,
            source=other,
            renamed_from=other,
            type=one,
            notes=(replace(c.notes[0], said=one),),
        )
        for c in found.columns
    )
    found = replace(
        found,
        table=table,
        source=table,
        source_key=pairs,
        columns=filled,
        key=replace(found.key, columns=(one, other)),
    )
    path = tmp_path_factory.getbasetemp() / "phase.yml"
    path.write_text(render.phase_file(found, "p", "", templated=False), encoding="utf-8")
    loader = DataLoader()
    given_ = loader.load_from_file(str(path), cache="none", trusted_as_template=True)
    read_ = Templar(loader).template(given_)
    assert read_["phase_key"] == [one, other]
    assert read_["phase_source_key"] == {one: other}
    assert read_["phase_table"] == other and read_.get("phase_schema", "public") == one
    assert read_["phase_columns"] == [
        {"name": one, "type": one, "source": other, "renamed_from": other}
    ]
    path.write_text(render.playbook(found, "runbook.yml", one), encoding="utf-8")
    (play,) = loader.load_from_file(str(path), cache="none", trusted_as_template=True)
    assert Templar(loader).template(play["vars"]) == {"phase_file": one}
    assert "\n" not in Templar(loader).template(play["name"])


def test_the_models_are_a_template_where_that_is_meant() -> None:
    written = render.phase_file(
        make.guess(seen()), "p", "{{ playbook_dir }}/m.py:B", templated=True
    )
    assert yaml.safe_load(written)["phase_models"] == "{{ playbook_dir }}/m.py:B"
    assert "!unsafe" not in written


def test_it_is_short_and_its_lines_are(capsys: pytest.CaptureFixture[str]) -> None:
    written = render.phase_file(make.guess(seen()), "orders", "", templated=False)
    lines = written.splitlines()
    assert len([line for line in lines if line and not line.lstrip().startswith("#")]) <= 15
    assert max(map(len, lines)) <= 100
    shown = told.text(make.guess(seen())).splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[-1] == "2 guessed, to be checked; nothing left to fill in."


def test_in_the_projects_folder_files_name_each_other_from_there() -> None:
    models = str(paths.PROJECT / "models/session_snapshots.py")
    found = paths.paths(paths.PLAYBOOKS, "p4", f"{models}:Base")
    assert (found.imports, found.phase_file) == ("runbook.yml", "vars/p4.yml")
    assert found.models == "{{ playbook_dir }}/../models/session_snapshots.py:Base"
    assert found.templated


def test_elsewhere_they_name_each_other_by_their_whole_path(tmp_path: Path) -> None:
    found = paths.paths(tmp_path, "p4", f"{tmp_path}/m.py:Base")
    assert (tmp_path / found.imports).resolve() == paths.PLAYBOOKS / "runbook.yml"
    assert found.phase_file == str(tmp_path.resolve() / "vars/p4.yml")
    assert found.models == f"{tmp_path.resolve()}/m.py:Base" and not found.templated
    assert paths.paths(tmp_path, "p4", "shop.models:Base").models == "shop.models:Base"


def test_with_a_collection_they_name_each_other_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "RUNBOOK", "pgrunbook.pgrunbook.runbook")
    monkeypatch.chdir(tmp_path)
    found = paths.paths(tmp_path, "p4", f"{tmp_path}/app/models.py:Base")
    assert found.imports == "pgrunbook.pgrunbook.runbook"
    assert (found.phase_file, found.models) == ("vars/p4.yml", "app/models.py:Base")
    assert paths.paths(tmp_path, "p4", "/else/models.py:Base").models == "/else/models.py:Base"


def test_no_file_is_overwritten_and_none_is_left_alone(tmp_path: Path) -> None:
    to = paths.paths(tmp_path, "p4", "")
    to.playbook.write_text("mine", encoding="utf-8")
    with pytest.raises(RunbookError, match=r"p4\.yml is there already\. Nothing was written\."):
        files.require_new("p4", to)
    with pytest.raises(RunbookError, match="Next step: give the phase another name"):
        files.write(to, "a", "b")
    assert to.playbook.read_text(encoding="utf-8") == "mine" and not to.phase.exists()


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "a/b", "{{ x }}"])
def test_a_name_that_names_no_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="cannot be called"):
        files.require_new(name, paths.paths(tmp_path, name, ""))


@pytest.mark.parametrize(
    ("table", "phase"), [("orders", "orders"), ("Order\nLine", "Order_Line"), ("ключ", "phase")]
)
def test_a_phase_is_called_like_its_table(table: str, phase: str) -> None:
    assert paths.name_of(table) == phase
