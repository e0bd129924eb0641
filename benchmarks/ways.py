# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of filling the three columns, from one UPDATE to pgrunbook's own modules.

Each takes a fresh copy of the drifted database. prepare() brings it to where the columns have
their right names, and is not timed; work() is timed from its first statement to its last.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from sqlalchemy import URL, create_engine, or_, select
from sqlalchemy.orm import Session

from benchmarks import modules
from benchmarks.database import Connection, Database
from models.session_snapshots import IPInventory, SessionSummary

KEYSET_ROWS = 1000
ORM_COMMIT_ROWS = 1000

SKIP_LOCKED_ROWS = 1000
"""pgroll's default for --backfill-batch-size, with its default of no --backfill-batch-delay."""

PAUSED_ROWS = 10_000
PAUSE_S = 0.01
"""Both as strong_migrations advises: in_batches(of: 10000), and sleep(0.01) after each batch."""

_RENAMES = (
    "ALTER TABLE session_summaries RENAME COLUMN snapshot_ip_types TO snapshot_ip_type",
    "ALTER INDEX ix_session_summaries_snapshot_ip_types"
    " RENAME TO ix_session_summaries_snapshot_ip_type",
)
_TO_FILL = """(t.snapshot_asn IS NULL AND s.current_asn IS NOT NULL
       OR t.snapshot_country IS NULL AND s.geo_country IS NOT NULL
       OR t.snapshot_ip_type IS NULL AND s.ip_type IS NOT NULL)"""
_FILL = f"""
UPDATE session_summaries t SET
    snapshot_asn = coalesce(t.snapshot_asn, s.current_asn),
    snapshot_country = coalesce(t.snapshot_country, s.geo_country),
    snapshot_ip_type = coalesce(t.snapshot_ip_type, s.ip_type)
FROM ip_inventory s
WHERE t.source_ip = s.ip_address
  AND {_TO_FILL}
"""
_NEXT_KEY = """
SELECT max(session_id) AS last FROM (
    SELECT session_id FROM session_summaries
    WHERE session_id > %s ORDER BY session_id LIMIT %s
) k
"""
_FILL_KEYS = _FILL + "  AND t.session_id > %s AND t.session_id <= %s\n"
_FILL_THESE = _FILL + "  AND t.session_id = ANY(%s)\n"
_KEYS = """
SELECT session_id AS key FROM session_summaries
WHERE session_id > %s ORDER BY session_id LIMIT %s
"""
_LOCKED_KEYS = f"""
SELECT t.session_id AS key
FROM session_summaries t JOIN ip_inventory s ON t.source_ip = s.ip_address
WHERE t.session_id > %s AND {_TO_FILL}
ORDER BY t.session_id LIMIT %s FOR UPDATE OF t
"""

# The covering index speeds up a query; only pgrunbook would build it, so no way does.
_NOT_COMPARED = "ix_session_summaries_snapshot_country_ip_type"


class Way(ABC):
    """One way, on one copy of the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.last_key: str | None = None
        """Where it fills a part of the table only: the last key that it looked at."""
        self.statement_ms: list[float] = []
        """How long each of its filling statements took, in milliseconds."""
        self.parts: dict[str, float] = {}
        """Seconds of each part of the work, where it has parts."""
        self.details: dict[str, Any] = {}
        """What else it says of its work."""

    def prepare(self) -> None:
        """Rename the wrong column and its index."""
        self.database.run(*_RENAMES)

    @abstractmethod
    def work(self) -> int:
        """Fill the columns; the number of rows changed."""

    def finish(self) -> None:  # noqa: B027
        """Collect what is known only afterwards; not timed."""

    @contextmanager
    def _statement(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.statement_ms.append((time.perf_counter() - started) * 1000)


class OneUpdate(Way):
    """One UPDATE … FROM, the whole table in one transaction."""

    def work(self) -> int:
        with self.database.connect() as conn, self._statement():
            return conn.execute(_FILL).rowcount


class Keyset(Way):
    """1,000 sessions at a time in the order of the primary key, each batch one transaction."""

    def work(self) -> int:
        rows, key = 0, ""
        with self.database.connect() as conn:
            while True:
                with conn.transaction():
                    found = conn.execute(_NEXT_KEY, (key, KEYSET_ROWS)).fetchone()
                    last = found["last"] if found else None
                    if last is None:
                        return rows
                    with self._statement():
                        rows += conn.execute(_FILL_KEYS, (key, last)).rowcount
                key = last


class SkipLocked(Way):
    """The keys of 1,000 rows that lack a value, locked and updated, each batch one transaction.

    The next batch begins after the last key, as in pgroll's backfill (docs/cli/start.mdx of
    https://github.com/xataio/pgroll), which waits for rows that others hold. Here they are skipped,
    as PostgreSQL's documentation of SELECT says of tables that are like queues, and a second way
    through the table waits for those that were.
    """

    def work(self) -> int:
        with self.database.connect() as conn:
            rows = self._through(conn, " SKIP LOCKED")
            started = time.perf_counter()
            rows += self._through(conn, "")
            self.details["again_seconds"] = time.perf_counter() - started
        return rows

    def _through(self, conn: Connection, wait: str) -> int:
        rows, key = 0, ""
        while True:
            with conn.transaction():
                found = conn.execute(_LOCKED_KEYS + wait, (key, SKIP_LOCKED_ROWS)).fetchall()
                if not found:
                    return rows
                keys = [row["key"] for row in found]
                with self._statement():
                    rows += conn.execute(_FILL_THESE, (keys,)).rowcount
            key = keys[-1]


class Paused(Way):
    """10,000 keys, one UPDATE of those that lack a value, and a pause of 10 ms.

    Size and pause are those of strong_migrations ("Backfilling data" in its README, and the code
    that its error shows: https://github.com/ankane/strong_migrations), for in_batches of Rails,
    which finds the keys first. pgroll and gh-ost do not pause unless they are told to.
    """

    def work(self) -> int:
        rows, key = 0, ""
        with self.database.connect() as conn:
            while found := conn.execute(_KEYS, (key, PAUSED_ROWS)).fetchall():
                keys = [row["key"] for row in found]
                with self._statement():
                    rows += conn.execute(_FILL_THESE, (keys,)).rowcount
                time.sleep(PAUSE_S)
                key = keys[-1]
        return rows


class RowAtATime(Way):
    """SQLAlchemy's ORM, two objects a row, on a share of the rows in the order of the key."""

    def __init__(self, database: Database, sessions: int) -> None:
        super().__init__(database)
        self.sessions = sessions
        self.keys: list[str] = []
        login = database.login
        self.url = URL.create(
            "postgresql+psycopg",
            username=login["user"],
            database=login["dbname"],
            query={"host": login["host"], "port": str(login["port"])},
        )

    def prepare(self) -> None:
        super().prepare()
        unfilled = or_(
            SessionSummary.snapshot_asn.is_(None),
            SessionSummary.snapshot_country.is_(None),
            SessionSummary.snapshot_ip_type.is_(None),
        )
        keys = select(SessionSummary.session_id).where(unfilled)
        engine = create_engine(self.url)
        with Session(engine) as session:
            ordered = keys.order_by(SessionSummary.session_id).limit(self.sessions)
            self.keys = list(session.scalars(ordered))
        engine.dispose()
        self.last_key = self.keys[-1] if self.keys else ""

    def work(self) -> int:
        rows = 0
        engine = create_engine(self.url)
        with Session(engine) as session:
            for number, key in enumerate(self.keys, start=1):
                rows += _fill_object(session, key)
                if number % ORM_COMMIT_ROWS == 0:
                    session.commit()
            session.commit()
        engine.dispose()
        return rows


class Engine(Way):
    """pgrunbook, through its modules: drop the deferred indexes, fill, build them again."""

    def __init__(
        self, database: Database, strategy: str, workers: int, changed: dict[str, float]
    ) -> None:
        super().__init__(database)
        self.spec = _phase_spec(strategy, workers) | changed
        self.run: dict[str, str] = {}

    def prepare(self) -> None:
        planned = modules.call("plan", login=self.database.login, spec=self.spec)
        self.run = planned["run"]
        self.details["strategy"] = planned["plan"]["strategy"]
        modules.approve(self.database.login, planned, "plan", "backfill")
        self._writing_module("column")
        self._index("rename")

    def work(self) -> int:
        with self._part("drop"):
            self._index("drop_invalid", "defer")
        with self._part("fill"):
            rows = self._fill()
        with self._part("build"):
            self._index("build")
        return rows

    def finish(self) -> None:
        with self.database.connect() as conn:
            batches = conn.execute("SELECT milliseconds FROM pgrunbook.batch")
            self.statement_ms = [row["milliseconds"] for row in batches]

    def _fill(self) -> int:
        """Slices until the work is done."""
        held, held_seconds, fallback, gentle = set(), 0.0, "", {}
        while True:
            result = self._writing_module("backfill")
            held |= set(result["held"])
            held_seconds += result["held_seconds"]
            fallback = fallback or result["fallback"]
            gentle = result["gentle"] or gentle
            if result["done"]:
                break
        self.details |= {
            "sweeps": result["sweep"],
            "held": sorted(held),
            "held_seconds": round(held_seconds, 1),
            "fallback": fallback,
            "gentle": gentle,
        }
        return int(result["rows_done"])

    def _index(self, *actions: str) -> None:
        deferred = self.details["strategy"]["deferred"]
        self._writing_module("index", actions=list(actions), deferred=deferred)

    def _writing_module(self, name: str, **arguments: Any) -> dict[str, Any]:
        return modules.call(
            name, login=self.database.login, spec=self.spec, run=self.run, **arguments
        )

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.parts[name] = time.perf_counter() - started


Factory = Callable[[Database], Way]

LABELS = {
    "one-update": "one UPDATE … FROM",
    "keyset": f"keyset batches of {KEYSET_ROWS:,}",
    "skip-locked": f"keys of {SKIP_LOCKED_ROWS:,}, SKIP LOCKED",
    "paused": f"batches of {PAUSED_ROWS:,}, {PAUSE_S * 1000:g} ms pause",
    "orm": "row at a time, ORM",
    "engine-1": "pgrunbook, 1 worker",
    "engine-2": "pgrunbook, 2 workers",
    "engine-interleaved": "pgrunbook, interleaved",
    "engine-ranges": "pgrunbook, ranges",
    "engine-keyset": "pgrunbook, keyset",
}

PEERS = {
    "skip-locked": f"{LABELS['skip-locked']}: a worker keeps the last key, locks the next "
    f"{SKIP_LOCKED_ROWS:,} rows that lack a value (`FOR UPDATE SKIP LOCKED`), updates them by "
    "their keys and commits; a second way through the table waits for the rows that were skipped. "
    "Size, order and no pause are pgroll's defaults, skipping is from job queues: pgroll waits.",
    "paused": f"{LABELS['paused']}: the next {PAUSED_ROWS:,} keys, one UPDATE of those that lack a "
    f"value, and a pause of {PAUSE_S * 1000:g} ms. As strong_migrations advises for Rails' "
    "`in_batches`, with its size and its pause.",
}
"""What the ways are that follow the documentation of other tools."""


def label(way: str) -> str:
    """A way's name for a person, with what changed() gives."""
    said = {"batch_target_ms": "batches of {:g} ms", "max_commit_ms": "commits of at most {:g} ms"}
    more = [said[option].format(value) for option, value in changed(way).items()]
    return ", ".join([LABELS[way.partition("@")[0]], *more])


def changed(way: str) -> dict[str, float]:
    """What of the phase is changed: behind an @ is for how many milliseconds a batch is to take,
    as in engine-1@10, or a commit beside it may take, as in engine-1@commit=5. Raises ValueError
    where it is neither."""
    name, at, text = way.partition("@")
    if not at:
        return {}
    commit = text.removeprefix("commit=")
    if name.startswith("engine-") and commit != text:
        return {"max_commit_ms": float(commit)}
    if not name.startswith("engine-") or not text.isdigit():
        raise ValueError(way)
    return {"batch_target_ms": int(text)}


def factory(way: str, orm_sessions: int) -> Factory:
    """What makes a way of that name; orm_sessions is how many rows the ORM is given."""
    name = way.partition("@")[0]

    def engine(strategy: str, workers: int) -> Factory:
        return lambda database: Engine(database, strategy, workers, changed(way))

    factories: dict[str, Factory] = {
        "one-update": OneUpdate,
        "keyset": Keyset,
        "skip-locked": SkipLocked,
        "paused": Paused,
        "orm": lambda database: RowAtATime(database, orm_sessions),
        "engine-1": engine("auto", 1),
        "engine-2": engine("auto", 2),
        "engine-interleaved": engine("interleaved", 1),
        "engine-ranges": engine("ranges", 1),
        "engine-keyset": engine("keyset", 1),
    }
    return factories[name]


def _fill_object(session: Session, key: str) -> bool:
    """Whether the session gained a value."""
    row = session.get_one(SessionSummary, key)
    ip = session.get(IPInventory, row.source_ip) if row.source_ip is not None else None
    if ip is None:
        return False
    before = (row.snapshot_asn, row.snapshot_country, row.snapshot_ip_type)
    if row.snapshot_asn is None:
        row.snapshot_asn = ip.current_asn
    if row.snapshot_country is None:
        row.snapshot_country = ip.geo_country
    if row.snapshot_ip_type is None:
        row.snapshot_ip_type = ip.ip_type
    return before != (row.snapshot_asn, row.snapshot_country, row.snapshot_ip_type)


def _phase_spec(strategy: str, workers: int) -> dict[str, Any]:
    """The option spec of the modules: phase 3 as it is, without what is not compared."""
    modules.import_path()
    options = importlib.import_module("ansible.module_utils.pgrunbook.core.spec").SPEC_OPTIONS
    text = (modules.ROOT / "playbooks/vars/phase3.yml").read_text(encoding="utf-8")
    phase = {key.removeprefix("phase_"): value for key, value in yaml.safe_load(text).items()}
    phase["phase"] = phase["name"]
    spec = {key: value for key, value in phase.items() if key in options}
    indexes = [index for index in spec["indexes"] if index["name"] != _NOT_COMPARED]
    return {**spec, "indexes": indexes, "queries": [], "strategy": strategy, "workers": workers}
