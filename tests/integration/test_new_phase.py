# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase file that new_phase.yml writes: right without an edit where the database says enough, and
refused by name where it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.proposal import Proposal, render
from tests.integration.conftest import (
    ROOT,
    Database,
    Played,
    command_line,
    options,
    played,
    program,
)
from tests.integration.steps import Module, Result

MODELS = f"{ROOT}/models/session_snapshots.py:Base"
ODD = (
    'CREATE SCHEMA "Sales {{ 7 * 7 }}"',
    'CREATE SCHEMA "ref # 1"',
    """CREATE TABLE "ref # 1"."Tariff's" ("Region Code" text NOT NULL, "Tariff No" int NOT NULL,
       "Price: Class" varchar(3), "Unit""s Weight" integer, "valid {% from %}" date,
       UNIQUE ("Region Code", "Tariff No"))""",
    """CREATE TABLE "Sales {{ 7 * 7 }}"."Order\nLine" ("Order No" bigint, "Line No" integer,
       "Region Code" varchar(10), "Tariff No" bigint, "sold Price: Class" text,
       "sold Unit""s Weight" text, "sold valid {% from %}" date, remark text,
       PRIMARY KEY ("Order No", "Line No"))""",
    """INSERT INTO "ref # 1"."Tariff's" SELECT 'R' || i % 5, i / 5, 'c' || i % 7, i, '2026-01-31'
       FROM generate_series(0, 49) i""",
    """INSERT INTO "Sales {{ 7 * 7 }}"."Order\nLine" SELECT i / 3, i % 3, 'R' || i % 5, i % 50 / 5
       FROM generate_series(1, 600) i""",
    """ANALYZE "Sales {{ 7 * 7 }}"."Order\nLine", "ref # 1"."Tariff's" """,
)
ODD_TABLES = {"table": "Order\nLine", "source": """"ref # 1"."Tariff's" """}


def proposed(module: Module, database: Database, table: str, source: str, **given: Any) -> Result:
    result = module("pgrunbook_proposal", login=database.login, table=table, source=source, **given)
    if not result.get("failed"):
        assert result["proof"] == {"read_only": True, "xid": None}
    return result


def phase_of(result: Result, models: str = "") -> dict[str, Any]:
    """The variables of the file that is rendered of a proposal."""
    assert "proposal" in result, result
    text = render.phase_file(read(Proposal, result["proposal"]), "new", models, templated=False)

    class Loader(yaml.SafeLoader):
        """As Ansible reads it: a text that is !unsafe is that text."""

    Loader.add_constructor("!unsafe", yaml.SafeLoader.construct_yaml_str)
    found: dict[str, Any] = yaml.load(text, Loader)
    return found


def dry_run(module: Module, database: Database, phase: dict[str, Any]) -> Result:
    return module("pgrunbook_plan", check=True, login=database.login, spec=options(phase))


def kinds(notes: list[dict[str, str]]) -> list[str]:
    return [note["kind"] for note in notes]


@pytest.mark.representative
def test_with_models_it_is_what_phase_3_says(
    any_database: Database, module: Module, phase3: dict[str, Any]
) -> None:
    before = any_database.fingerprint()
    result = proposed(module, any_database, "session_summaries", "ip_inventory", models=MODELS)
    phase = phase_of(result, MODELS)

    for variable in ("phase_table", "phase_key", "phase_source_table", "phase_source_key"):
        assert phase[variable] == phase3[variable]
    spelled = {"varchar(2)": "character varying(2)"}
    wanted = [{**c, "type": spelled.get(c["type"], c["type"])} for c in phase3["phase_columns"]]
    assert phase["phase_columns"] == wanted
    known = {i["name"]: i for i in phase3["phase_indexes"]}
    assert [known[i["name"]] for i in phase["phase_indexes"]] == phase["phase_indexes"]
    assert len(phase["phase_indexes"]) == 3, "the covering one is in no model"

    assert [kinds(c["notes"]) for c in result["proposal"]["columns"]] == [
        ["guessed"],
        ["guessed"],
        ["guessed", "guessed"],
    ]
    planned = dry_run(module, any_database, phase)
    assert not planned.get("failed"), planned.get("msg")
    assert "rename column snapshot_ip_types to snapshot_ip_type" in planned["brief"]
    assert any_database.fingerprint() == before


def test_without_models_it_says_that_it_knows_no_right_names(
    database: Database, module: Module, phase3: dict[str, Any]
) -> None:
    result = proposed(module, database, "session_summaries", "ip_inventory")
    phase = phase_of(result)
    assert [(c["name"], c["source"]) for c in phase["phase_columns"]] == [
        (c.get("renamed_from", c["name"]), c["source"]) for c in phase3["phase_columns"]
    ]
    assert phase["phase_source_key"] == phase3["phase_source_key"]
    assert "which names the application expects: no models were given" in result["text"]
    assert not dry_run(module, database, phase).get("failed")


def test_of_odd_names_in_two_schemas(database: Database, module: Module) -> None:
    for statement in ODD:
        database.sql(statement)
    result = proposed(module, database, **ODD_TABLES)
    phase = phase_of(result)
    assert phase["phase_schema"] == "Sales {{ 7 * 7 }}" and phase["phase_table"] == "Order\nLine"
    assert phase["phase_key"] == ["Order No", "Line No"]
    assert phase["phase_source_key"] == {"Region Code": "Region Code", "Tariff No": "Tariff No"}
    assert [(c["name"], c["type"], c["source"]) for c in phase["phase_columns"]] == [
        ("sold Price: Class", "text", '"Price: Class"'),
        ('sold Unit"s Weight', "text", '"Unit""s Weight"::text'),
        ("sold valid {% from %}", "date", '"valid {% from %}"'),
    ]
    assert kinds(result["proposal"]["source_key"]["notes"]) == ["guessed"]
    assert "Order\\nLine" in result["text"] and "Order\nLine" not in result["text"]
    planned = dry_run(module, database, phase)
    assert not planned.get("failed"), planned.get("msg")
    assert "fill 600 of 600 rows" in planned["brief"]


def test_a_whole_way_from_two_names_to_a_dry_run(
    database: Database, playbook: Callable[..., Played], tmp_path: Path
) -> None:
    for statement in ODD:
        database.sql(statement)
    before = database.fingerprint()
    folder = f"{tmp_path}/mine {{{{ folder"
    given = {**ODD_TABLES, "folder": folder}
    typed = json.dumps({key: {"__ansible_unsafe": value} for key, value in given.items()})

    made = playbook(database.login, "new_phase", "-e", typed)
    assert made.status == 0 and made.recap("changed") == 1, made.output
    (book,) = Path(folder).glob("*.yml")
    assert book.name == "Order_Line.yml"
    assert "transaction_read_only on, transaction id none." in made.output

    up = "../" * (len(ROOT.parts) + 1)
    dry = playbook(database.login, f"{up}{str(book)[1:].removesuffix('.yml')}", "--check")
    assert dry.status == 0 and "fill 600 of 600 rows" in dry.output, dry.output
    assert database.fingerprint() == before

    content = book.read_bytes()
    again = playbook(database.login, "new_phase", "-e", typed)
    assert again.status == 2 and "are there already. Nothing was written." in again.output
    assert "Next step: give the phase another name" in again.output
    assert book.read_bytes() == content


def test_of_several_hosts_it_looks_at_the_first_and_says_so(
    database: Database, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts.yml"
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "runbook_login": database.login,
    }
    group = {
        "hosts": {"first": None, "second": {"runbook_login": {"host": "/nowhere"}}},
        "vars": variables,
    }
    hosts.write_text(yaml.safe_dump({"databases": group}), encoding="utf-8")
    given = {"table": "session_summaries", "source": "ip_inventory", "folder": str(tmp_path)}
    command = [program(), "-i", str(hosts), "playbooks/new_phase.yml", "-e", json.dumps(given)]
    made = played(command)
    assert made.status == 0 and "Of 2 hosts, first was looked at" in made.output, made.output


def test_make_shows_the_dry_run_and_says_what_to_do(database: Database, tmp_path: Path) -> None:
    """A table whose name a shell, make and Ansible would each take for something else."""
    database.sql(
        'CREATE TABLE "$x {{ 1 }}" (id int PRIMARY KEY, customer_id int, since date);'
        "CREATE TABLE customers (id int PRIMARY KEY, since timestamptz);"
        'ANALYZE "$x {{ 1 }}", customers'
    )
    command_line(tmp_path, database.login, "new_phase")  # writes the inventory
    given = ["TABLE=$x {{ 1 }}", "SOURCE=customers", f"I={tmp_path}/inventory.yml"]
    made = played(
        [
            "make",
            "--no-print-directory",
            "new-phase",
            "--old-file=.venv/.use",
            f"FOLDER={tmp_path}",
            *given,
        ]
    )
    assert made.status == 0 and (tmp_path / "vars/x_1.yml").is_file(), made.output
    assert "$x {{ 1 }}" in (tmp_path / "vars/x_1.yml").read_text(encoding="utf-8")
    assert "TO DO is still what phase_columns has as source of 'since'" in made.output
    assert "\\n" not in made.output, "a line break where a sentence ends"
    assert made.output.rstrip().endswith("/vars/x_1.yml")


def test_in_check_mode_no_file_is_written(
    database: Database, playbook: Callable[..., Played], tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    given = f"table=session_summaries source=ip_inventory phase=p4 folder={folder}"
    made = playbook(database.login, "new_phase", "--check", "-e", given)
    assert made.status == 0 and "phase_key: [session_id]" in made.output, made.output
    assert not folder.exists()


SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id int PRIMARY KEY, code text UNIQUE, region text, tier int);
CREATE TABLE shop.orders (id int PRIMARY KEY, customer_id int, code text, customer_region text,
                          tier bigint);
INSERT INTO shop.customers SELECT i, 'c' || i, 'r' || i % 5, i % 3 FROM generate_series(1, 50) i;
INSERT INTO shop.orders SELECT i, 1 + i % 50, 'o' || i FROM generate_series(1, 500) i;
ANALYZE shop.customers, shop.orders;
"""


@pytest.fixture
def shop(database: Database) -> Database:
    database.sql(SHOP)
    return database


def test_the_key_of_both_tables_is_not_a_reference(shop: Database, module: Module) -> None:
    """orders.id and customers.id have one name; code has more values than there are customers."""
    result = proposed(module, shop, "orders", "shop.customers")
    phase = phase_of(result)
    assert phase["phase_source_key"] == {"customer_id": "id"}
    assert [(c["name"], c["source"]) for c in phase["phase_columns"]] == [
        ("customer_region", "region"),
        ("tier", "tier"),
    ]
    assert not dry_run(module, shop, phase).get("failed")


def test_several_foreign_keys_are_for_a_person_to_choose_from(
    shop: Database, module: Module
) -> None:
    shop.sql(
        "ALTER TABLE shop.orders ADD payer int REFERENCES shop.customers, "
        "ADD FOREIGN KEY (customer_id) REFERENCES shop.customers"
    )
    result = proposed(module, shop, "orders", "customers")
    assert "phase_source_key" not in phase_of(result)
    assert result["proposal"]["source_key"]["choices"] == [{"customer_id": "id"}, {"payer": "id"}]
    text = render.phase_file(read(Proposal, result["proposal"]), "new", "", templated=False)
    assert "# TO DO: 2 foreign keys refer to shop.customers; keep the one that is meant." in text
    assert "\n# phase_source_key: {payer: id}\n" in text


WRONG: dict[str, tuple[str, dict[str, str], str]] = {
    "no such table": (
        "",
        {"table": "order"},
        "no table 'order' in database .* Near names: 'orders'",
    ),
    "no such schema": ("", {"source": "shp.customers"}, "Near names: 'shop.customers'"),
    "the same twice": ("", {"source": "shop.orders"}, "table and source are both shop.orders"),
    "in two schemas": (
        "CREATE SCHEMA b; CREATE TABLE b.orders (id int)",
        {},
        "could be b.orders, shop.orders. Next step: give table with its schema",
    ),
    "a view is filled": (
        "CREATE VIEW shop.v AS SELECT 1 AS id",
        {"table": "v"},
        "shop.v is a view, and the runbook works on tables",
    ),
    "models that are not there": ("", {"models": "/x.py:Base"}, "there is no file /x.py"),
    "models without the table": ("", {"models": MODELS}, "have no table shop.orders. Next step"),
    "no right to read": (
        "ALTER TABLE shop.customers OWNER TO postgres",
        {},
        'may not read shop.customers. Next step: .*GRANT SELECT ON "shop"."customers"',
    ),
}


ODD_MODELS = """
from sqlalchemy import *
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): pass
Table(
    "Order\\nLine",
    Base.metadata,
    Column("Order No", BigInteger, primary_key=True),
    Column("Line No", Integer, primary_key=True),
    Column("Region Code", String(10)),
    Column("Tariff No", BigInteger),
    Column("sold Price: Classes", Text, index=True),
    Column('sold Unit"s Weight', Text),
    Column("remark", Text),
    schema="Sales {{ 7 * 7 }}",
)
"""


def test_models_of_odd_names_say_what_is_renamed_and_what_is_not_theirs(
    database: Database, module: Module, tmp_path: Path
) -> None:
    for statement in ODD:
        database.sql(statement)
    path = tmp_path / "odd.py"
    path.write_text(ODD_MODELS, encoding="utf-8")
    result = proposed(module, database, **ODD_TABLES, models=f"{path}:Base")
    phase = phase_of(result, f"{path}:Base")
    assert phase["phase_columns"] == [
        {
            "name": "sold Price: Classes",
            "type": "text",
            "source": '"Price: Class"',
            "renamed_from": "sold Price: Class",
        },
        {"name": 'sold Unit"s Weight', "type": "text", "source": '"Unit""s Weight"::text'},
    ]
    (index,) = phase["phase_indexes"]
    assert index["columns"] == ["sold Price: Classes"] and "renamed_from" not in index
    planned = dry_run(module, database, phase)
    assert not planned.get("failed"), planned.get("msg")
    assert "rename column sold Price: Class to sold Price: Classes" in planned["brief"]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_by_name(shop: Database, module: Module, case: str) -> None:
    prepare, given, words = WRONG[case]
    if prepare:
        shop.superuser(prepare)
    result = proposed(module, shop, **{"table": "orders", "source": "customers", **given})
    assert result.get("failed"), result
    assert re.search(words, result["msg"]), result["msg"]
    assert "Next step: " in result["msg"] and "Traceback" not in result["msg"]


def test_broken_models_are_refused_with_their_line(
    shop: Database, module: Module, tmp_path: Path
) -> None:
    path = tmp_path / "broken.py"
    path.write_text("x = 1\nBase = undefined\n", encoding="utf-8")
    result = proposed(module, shop, "orders", "customers", models=f"{path}:Base")
    assert f"NameError: name 'undefined' is not defined, in {path}, line 2" in result["msg"]


def left(result: Result) -> list[str]:
    """What a person has to fill in, or should know."""
    found = result["proposal"]
    parts = [found, found["key"], found["source_key"], *found["columns"]]
    return [n["said"] for part in parts for n in part["notes"] if n["kind"] in ("todo", "unknown")]


def test_what_no_catalog_knows_is_left_to_fill_in(shop: Database, module: Module) -> None:
    shop.sql(
        "ALTER TABLE shop.orders DROP CONSTRAINT orders_pkey;"
        "ALTER TABLE shop.customers DROP CONSTRAINT customers_pkey,"
        " DROP CONSTRAINT customers_code_key"
    )
    result = proposed(module, shop, "orders", "customers")
    phase = phase_of(result)
    assert not {"phase_key", "phase_source_key"} & set(phase)
    assert any(
        "shop.orders has no unique index on columns that are all NOT NULL" in s
        for s in left(result)
    )
    assert any("it has no unique index, so nothing says which row" in s for s in left(result))


def test_a_type_that_nothing_turns_into_the_other_is_left_to_fill_in(
    shop: Database, module: Module
) -> None:
    shop.sql("ALTER TABLE shop.orders ALTER tier TYPE date USING NULL; ANALYZE shop.orders")
    phase = phase_of(proposed(module, shop, "orders", "customers"))
    assert phase["phase_columns"][1]["source"] == "TO DO"
    refused = dry_run(module, shop, phase)
    assert (
        "TO DO is still what phase_columns has as source of 'tier'. Next step: " in refused["msg"]
    )


def test_of_tables_without_statistics_it_says_so(shop: Database, module: Module) -> None:
    shop.sql(
        "CREATE TABLE shop.new (id int PRIMARY KEY, customer_id int, customer_region text);"
        "CREATE TABLE shop.empty (id int PRIMARY KEY, customer_id int, customer_region text);"
        "ANALYZE shop.empty"
    )
    for table, words in (("new", "was never analyzed"), ("empty", "was empty when it was last")):
        result = proposed(module, shop, table, "customers")
        assert any(words in said for said in left(result)), result["text"]
        assert [c["name"] for c in phase_of(result)["phase_columns"]] == ["customer_region"]


def test_values_that_are_there_are_not_filled(shop: Database, module: Module) -> None:
    shop.sql("UPDATE shop.orders SET customer_region = 'x', tier = 1; ANALYZE shop.orders")
    result = proposed(module, shop, "orders", "customers")
    assert "phase_columns" not in phase_of(result)
    assert any("no column of shop.orders is mostly NULL" in said for said in left(result))


def test_a_view_has_no_unique_index_and_is_guessed(shop: Database, module: Module) -> None:
    shop.sql("CREATE VIEW shop.known AS SELECT id AS customer_id, region FROM shop.customers")
    result = proposed(module, shop, "orders", "known")
    assert phase_of(result)["phase_source_key"] == {"customer_id": "customer_id"}
    (note,) = result["proposal"]["source_key"]["notes"]
    assert note["kind"] == "guessed" and "the source is a view" in note["said"]
    assert not dry_run(module, shop, phase_of(result)).get("failed")


def test_a_materialized_view_with_a_unique_index_is_no_riddle(
    shop: Database, module: Module
) -> None:
    shop.sql(
        "CREATE MATERIALIZED VIEW shop.known AS SELECT id customer_id, region FROM shop.customers;"
        "CREATE UNIQUE INDEX ON shop.known (customer_id);"
        "CREATE UNIQUE INDEX ON shop.known (customer_id, region)"
    )
    phase = phase_of(proposed(module, shop, "orders", "known"))
    assert phase["phase_source_key"] == {"customer_id": "customer_id"}


def test_a_partitioned_table_has_statistics_of_its_own(shop: Database, module: Module) -> None:
    shop.sql(
        "CREATE TABLE shop.parts (id int, customer_id int NOT NULL, customer_region text,"
        " code text, PRIMARY KEY (id, code)) PARTITION BY LIST (code);"
        "CREATE TABLE shop.a PARTITION OF shop.parts FOR VALUES IN ('a');"
        "INSERT INTO shop.parts SELECT i, 1 + i % 50, NULL, 'a' FROM generate_series(1, 500) i;"
        "ANALYZE shop.parts"
    )
    result = proposed(module, shop, "parts", "customers")
    assert [c["name"] for c in phase_of(result)["phase_columns"]] == ["customer_region"]
    assert result["proposal"]["columns"][0]["notes"][0]["said"].startswith("NULL in every row")
    assert result["proposal"]["rows"] == 500
    assert not dry_run(module, shop, phase_of(result)).get("failed")


def test_a_column_that_is_only_named_wrongly_is_renamed(
    database: Database, module: Module, tmp_path: Path
) -> None:
    """It has all its values, and may not be NULL."""
    database.sql(
        "CREATE TABLE customers (id int PRIMARY KEY, region text NOT NULL);"
        "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,"
        " customer_regions text NOT NULL, doubled bigint GENERATED ALWAYS AS (id * 2) STORED);"
        "INSERT INTO customers VALUES (1, 'north');"
        "INSERT INTO orders VALUES (1, 1, 'north'), (2, 1, 'north'); ANALYZE customers, orders"
    )
    path = tmp_path / "shop_models.py"
    path.write_text(SHOP_MODELS, encoding="utf-8")
    phase = phase_of(proposed(module, database, "orders", "customers", models=f"{path}:Base"))
    (column,) = phase["phase_columns"]
    assert (column["name"], column["renamed_from"], column["source"]) == (
        "customer_region",
        "customer_regions",
        "region",
    )
    planned = dry_run(module, database, phase)
    assert not planned.get("failed"), planned.get("msg")
    assert "rename column customer_regions to customer_region" in planned["brief"]


def test_types_that_people_made_are_spelled_with_their_schema(
    shop: Database, module: Module, tmp_path: Path
) -> None:
    shop.sql(
        "CREATE TYPE shop.\"Tier's\" AS ENUM ('a', 'b');"
        'ALTER TABLE shop.customers ADD kind shop."Tier\'s";'
        'ALTER TABLE shop.orders ADD customer_kind shop."Tier\'s"; ANALYZE shop.orders'
    )
    phase = phase_of(proposed(module, shop, "orders", "customers"))
    (kind,) = [c for c in phase["phase_columns"] if c["name"] == "customer_kind"]
    assert kind == {"name": "customer_kind", "type": 'shop."Tier\'s"', "source": "kind"}
    assert not dry_run(module, shop, phase).get("failed")


SHOP_MODELS = """
from sqlalchemy import *
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): pass
Table("customers", Base.metadata, Column("id", Integer, primary_key=True))
Table(
    "orders",
    Base.metadata,
    Column("id", BigInteger, primary_key=True),
    Column("customer_id", ForeignKey("customers.id"), nullable=False),
    Column("customer_region", Text),
    Column("customer_tier", Integer),
    Column("customer_signed_up", Date),
    Index("ix_orders_customer_region", "customer_region"),
)
"""


def test_the_page_shows_what_is_written_and_printed(
    database: Database, module: Module, tmp_path: Path
) -> None:
    page = (ROOT / "docs/your-own-table.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    tables = next(body for kind, body in blocks if kind == "sql")
    file = next(body for kind, body in blocks if kind == "yaml")
    shown = next(body for kind, body in blocks if "Propose a phase" in body)
    database.sql(
        f"{tables} INSERT INTO customers SELECT i, 'r', 1 FROM generate_series(1, 5000) i;"
        "INSERT INTO orders SELECT i, 1 + i % 5000, now() FROM generate_series(1, 200000) i;"
        "ANALYZE customers, orders"
    )
    path = tmp_path / "shop_models.py"
    path.write_text(SHOP_MODELS, encoding="utf-8")
    result = proposed(module, database, "orders", "customers", models=f"{path}:Base")
    assert result["text"] in shown
    models = "{{ playbook_dir }}/../shop_models.py:Base"
    found = read(Proposal, result["proposal"])
    assert file in render.phase_file(found, "orders", models, templated=True)
