# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop's models and tables, which agree, and what becomes of what the comparison offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.pgrunbook.core import phase as phase_module
from tests.integration.conftest import Database
from tests.unit.conftest import options as smallest

Difference = dict[str, Any]
Compare = Callable[..., list[Difference]]

HEAD = """
from sqlalchemy import *
from sqlalchemy.dialects.postgresql import *
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): pass
orders = lambda *a, **k: Table("orders", Base.metadata, *a, **k)
customers = lambda *a, **k: Table("customers", Base.metadata, *a, **k)
"""
MODELS = """
customers(Column("id", Integer, primary_key=True), Column("geo", JSONB), Column("email", Text))
orders(
    Column("id", Integer, primary_key=True),
    Column("customer", Integer, ForeignKey("customers.id", name="k"), nullable=False),
    Column("region", Text),
    Column("code", String(8)),
    Column("kind", Text),
    UniqueConstraint("code", name="u"),
    Index("ix_region", "region"),
    Index("ix_pair", "customer", "code", unique=True),
    Index("ix_lower", text("lower(region)")),
)
"""
TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, geo jsonb, email text);
CREATE TABLE orders (
    id int PRIMARY KEY,
    customer int NOT NULL CONSTRAINT k REFERENCES customers,
    region text,
    code varchar(8) CONSTRAINT u UNIQUE,
    kind text
);
CREATE INDEX ix_region ON orders (region);
CREATE UNIQUE INDEX ix_pair ON orders (customer, code);
CREATE INDEX ix_lower ON orders (lower(region));
"""
PHASE = phase_module.parse(
    smallest(columns=[{"name": "region", "type": "text", "source": "geo->>'region'"}])
)


def kinds(found: list[Difference]) -> list[tuple[str, str, str]]:
    return [(d["kind"], d["object"], d["severity"]) for d in found]


def run(database: Database, script: str) -> None:
    """What psql does with a script that is pasted into it."""
    with database.connect() as conn:
        for statement in script.removesuffix(";").split(";\n"):
            conn.execute(statement)


def try_every_way(database: Database, found: list[Difference]) -> list[str]:
    """Run the SQL of every way out, and take it back; last what cannot stand in a transaction,
    which stays. Returns the scripts."""
    scripts = [way["sql"] for told in found for way in told["resolutions"] if way["sql"]]
    alone = [script for script in scripts if "CONCURRENTLY" in script]
    for script in [script for script in scripts if script not in alone]:
        assert script.startswith("BEGIN;\nSET LOCAL lock_timeout = '500ms';\n"), script
        assert script.endswith(";\nCOMMIT;"), script
        with database.connect() as conn, conn.transaction(force_rollback=True):
            for statement in script.split(";\n"):
                if statement.rstrip(";") not in ("BEGIN", "COMMIT"):
                    conn.execute(statement)
    for script in alone:
        assert script.startswith("SET lock_timeout = '30min';\n"), script
        run(database, script)
    return scripts
