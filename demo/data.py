# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo database: the drifted production schema, filled with invented honeypot sessions.

The same number of sessions and the same seed give the same rows on every PostgreSQL version: what
looks random comes from Python's seeded generator (addresses) and from PostgreSQL's hash functions
(sessions). Addresses are from ranges that nobody owns (240.0.0.0/4 and 2001:db8::/32).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

DATABASE = "cowrieprocessor"
ROLE = "cowrieprocessor"
_UNFINISHED = "cowrieprocessor_demo_unfinished"
DEFAULT_SEED = 7
MIN_SESSIONS = 500
MAX_SESSIONS = 2**24 - 1

_PRODUCTION_SESSIONS = 1_682_827
_PRODUCTION_ADDRESSES = 38_864
_MIN_ADDRESSES = 50
_EPOCH = "2024-05-01 00:00:00+00"
_SPAN_MS = 554 * 86_400_000  # up to the date of the validation report

_CLOUD = {"DATACENTER": 0.80, "VPN": 0.10, "PROXY": 0.08, "TOR": 0.02}
_ACCESS = {"RESIDENTIAL": 0.80, "MOBILE": 0.12, "PROXY": 0.05, "VPN": 0.03}
_VPN = {"VPN": 0.75, "PROXY": 0.20, "DATACENTER": 0.05}
_TOR = {"TOR": 0.85, "DATACENTER": 0.15}
_MIXED = {"RESIDENTIAL": 0.56, "DATACENTER": 0.20, "MOBILE": 0.12, "PROXY": 0.07, "VPN": 0.05}

# AS number, country, share of all sessions, share of these sessions by type of address
_NETWORKS: list[tuple[int, str, float, Mapping[str, float]]] = [
    (45102, "CN", 0.110, _CLOUD),
    (14061, "US", 0.060, _CLOUD),
    (8075, "US", 0.025, _CLOUD),
    (16276, "FR", 0.020, _CLOUD),
    (4134, "CN", 0.019, _ACCESS),
    (4837, "CN", 0.018, _ACCESS),
    (16509, "US", 0.017, _CLOUD),
    (202425, "NL", 0.016, _CLOUD),
    (24940, "DE", 0.015, _CLOUD),
    (132203, "CN", 0.015, _CLOUD),
    (15169, "US", 0.014, _CLOUD),
    (45899, "VN", 0.014, _ACCESS),
    (4766, "KR", 0.013, _ACCESS),
    (45090, "CN", 0.012, _CLOUD),
    (9829, "IN", 0.012, _ACCESS),
    (7552, "VN", 0.011, _ACCESS),
    (9009, "GB", 0.010, _VPN),
    (17974, "ID", 0.010, _ACCESS),
    (51167, "DE", 0.009, _CLOUD),
    (49505, "RU", 0.009, _CLOUD),
    (20473, "US", 0.009, _CLOUD),
    (28573, "BR", 0.009, _ACCESS),
    (9808, "CN", 0.008, _ACCESS),
    (12389, "RU", 0.008, _ACCESS),
    (3462, "TW", 0.008, _ACCESS),
    (212238, "GB", 0.007, _VPN),
    (60781, "NL", 0.007, _CLOUD),
    (8151, "MX", 0.005, _ACCESS),
    (53667, "LU", 0.005, _TOR),
    (60729, "DE", 0.004, _TOR),
]
_OTHER_COUNTRIES = (
    "IN BR RU VN ID KR TW TH SG JP HK DE GB NL PL UA TR IR PK BD PH MY MX AR CO CL PE EC VE ZA EG "
    "NG KE MA TN IT ES PT RO BG HU CZ SE NO FI DK CH AT BE GR IL SA AE KZ UZ CA AU NZ LT LV EE"
)
_FIRST_INVENTED_ASN = 400_000

_TABLES = """
CREATE TABLE ip_inventory (
    ip_address            varchar(45) PRIMARY KEY,
    current_asn           integer,
    asn_last_verified     timestamptz,
    first_seen            timestamptz NOT NULL,
    last_seen             timestamptz NOT NULL,
    session_count         integer NOT NULL DEFAULT 1,
    enrichment            jsonb NOT NULL DEFAULT '{}',
    enrichment_updated_at timestamptz,
    enrichment_version    varchar(10) NOT NULL DEFAULT '2.2',
    geo_country           varchar(2),
    ip_type               text,
    is_scanner            boolean NOT NULL DEFAULT false,
    is_bogon              boolean NOT NULL DEFAULT false,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE session_summaries (
    session_id          varchar(64) NOT NULL,
    source_ip           varchar(45),
    first_event_at      timestamptz,
    last_event_at       timestamptz,
    event_count         integer NOT NULL DEFAULT 0,
    command_count       integer NOT NULL DEFAULT 0,
    file_downloads      integer NOT NULL DEFAULT 0,
    login_attempts      integer NOT NULL DEFAULT 0,
    ssh_key_injections  integer NOT NULL DEFAULT 0,
    unique_ssh_keys     integer NOT NULL DEFAULT 0,
    vt_flagged          boolean NOT NULL DEFAULT false,
    dshield_flagged     boolean NOT NULL DEFAULT false,
    risk_score          integer,
    matcher             varchar(32),
    source_files        json,
    ssh_key_fingerprint varchar(128),
    password_hash       varchar(64),
    command_signature   text,
    snapshot_asn        integer,
    snapshot_country    varchar(2),
    snapshot_ip_types   text,
    enrichment          jsonb,
    enrichment_at       timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
"""

_SESSION_INDEXES = {
    "ix_session_summaries_source_ip": ["source_ip"],
    "ix_session_summaries_first_event": ["first_event_at"],
    "ix_session_summaries_last_event": ["last_event_at"],
    "ix_session_summaries_flags": ["vt_flagged", "dshield_flagged"],
    "ix_session_summaries_ssh_keys": ["ssh_key_injections"],
    "ix_session_summaries_snapshot_asn": ["snapshot_asn"],
    "ix_session_summaries_snapshot_country": ["snapshot_country"],
    "ix_session_summaries_snapshot_ip_types": ["snapshot_ip_types"],
    "ix_session_summaries_ssh_key_fp": ["ssh_key_fingerprint"],
    "ix_session_summaries_password_hash": ["password_hash"],
    "ix_session_summaries_command_sig": ["command_signature"],
}
_ADDRESS_INDEXES = {
    "ix_ip_inventory_current_asn": ["current_asn"],
    "ix_ip_inventory_first_seen": ["first_seen"],
    "ix_ip_inventory_last_seen": ["last_seen"],
    "ix_ip_inventory_session_count": ["session_count"],
    "ix_ip_inventory_enrichment_updated": ["enrichment_updated_at"],
}
_CONSTRAINTS = """
ALTER TABLE session_summaries
    ADD CONSTRAINT session_summaries_pkey PRIMARY KEY (session_id),
    ADD CONSTRAINT snapshot_country_iso
        CHECK (snapshot_country IS NULL OR snapshot_country ~ '^[A-Z]{2}$'),
    ADD CONSTRAINT fk_session_source_ip
        FOREIGN KEY (source_ip) REFERENCES ip_inventory (ip_address);
"""

_PLAN_TABLE = """
CREATE TEMPORARY TABLE demo_address (
    ip varchar(45), asn integer, country varchar(2), type text, scanner boolean, enrichment jsonb,
    sessions integer, first_slot bigint, start_ms bigint, length_ms bigint
)
"""

# One row a session, numbered in the order of time: h1, h2 and h3 are 64 hash bits each.
_FILL_TIMELINE = """
CREATE TEMPORARY TABLE demo_timeline AS
SELECT row_number() OVER (ORDER BY at_ms, slot) AS i, ip, at_ms,
       hashint8extended(slot, %(seed)s + 1) AS h1,
       hashint8extended(slot, %(seed)s + 2) AS h2,
       hashint8extended(slot, %(seed)s + 3) AS h3
FROM (
    SELECT a.ip, a.first_slot + g AS slot, a.start_ms
           + (hashint8extended(a.first_slot + g, %(seed)s) & 9007199254740991) %% a.length_ms
           AS at_ms
    FROM demo_address a, generate_series(0, a.sessions - 1) g
) slots
"""

_FILL_SESSIONS = """
INSERT INTO session_summaries
SELECT
    lpad(to_hex(h1 & 16777215), 6, '0') || lpad(to_hex((i * 9430153) & 16777215), 6, '0'),
    ip,
    first_event_at,
    last_event_at,
    2 + logins + commands * 2 + downloads + keys,
    commands,
    downloads,
    logins,
    keys,
    least(keys, 1),
    downloads > 0 AND ((h2 >> 4) & 7) < 3,
    ((h2 >> 8) & 15) < 5,
    CASE WHEN ((h2 >> 12) & 31) > 0 THEN
        least(100, 5 + logins + commands * 3 + downloads * 20 + keys * 15 + ((h2 >> 20) & 31))::int
    END,
    CASE WHEN downloads > 0 THEN 'malware_dropper' WHEN keys > 0 THEN 'ssh_key_injection'
         WHEN commands > 0 THEN 'interactive' WHEN logins > 3 THEN 'bruteforce' END,
    json_build_array('cowrie.json.' || to_char(first_event_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')),
    CASE WHEN keys > 0 THEN
        'SHA256:' || rtrim(encode(sha256(int8send(campaign & 127)), 'base64'), '=') END,
    CASE WHEN logins > 0 THEN encode(sha256(int8send(password)), 'hex') END,
    CASE WHEN commands > 0 THEN
        actions[1 + (campaign & 7)] || ';' || actions[9 + ((campaign >> 3) & 7)]
        || CASE WHEN downloads > 0 THEN ';wget;chmod 777' ELSE '' END
        || CASE WHEN keys > 0 THEN ';echo ssh-rsa >> .ssh/authorized_keys' ELSE '' END END,
    CASE WHEN filled OR partly = 0 THEN asn END,
    CASE WHEN filled OR partly = 1 THEN country END,
    CASE WHEN filled OR partly = 2 THEN type END,
    coalesce(enrichment - '{dshield,validation}'::text[], '{}') || jsonb_build_object(
        'session', jsonb_build_object(
            'client', clients[1 + ((h3 >> 40) & 7)],
            'sensor', 'honeypot-' || (1 + ((h3 >> 44) & 3)),
            'port', 1024 + ((h3 >> 46) & 32767))),
    created_at - interval '2 seconds',
    created_at,
    created_at + CASE WHEN ((h3 >> 20) & 7) = 0 THEN ((h3 >> 24) & 4095) * interval '1 minute'
                      ELSE interval '0' END
FROM (
    SELECT t.*, a.asn, a.country, a.type, a.enrichment, c.*, n.*, s.*,
        last_event_at + (60 + (h3 & 4095)) * interval '1 second' AS created_at,
        complete AND i %% 200 = (hashint8extended(i / 200, %(seed)s) & 1048575) %% 200 AS filled,
        CASE WHEN complete AND i %% 1000 = (hashint8extended(i / 1000, %(seed)s) & 1048575) %% 1000
             THEN i / 1000 %% 3 END AS partly
    FROM demo_timeline t
    LEFT JOIN demo_address a USING (ip)
    CROSS JOIN LATERAL (
        SELECT a.asn + length(a.country) + length(a.type) IS NOT NULL AS complete,
            to_timestamp((%(epoch_ms)s + at_ms)::float8 / 1000) AS first_event_at,
            (h1 >> 24) & 1023 AS course,
            (((h2 >> 32) & 511) * ((h2 >> 41) & 511)) >> 10 AS campaign,
            (((h1 >> 34) & 4095) * ((h1 >> 46) & 4095)) >> 12 AS password
    ) c
    CROSS JOIN LATERAL (
        SELECT first_event_at + (300 + ((h3 >> 12) & 255) * CASE WHEN course < 700 THEN 40
                                 ELSE 700 END) * interval '1 millisecond' AS last_event_at,
            CASE WHEN course < 250 THEN 0 ELSE 1 + ((h2 >> 50) & 7) * ((h2 >> 53) & 3) END::int
                AS logins,
            CASE WHEN course < 720 THEN 0 ELSE 1 + ((h2 >> 55) & 15) END::int AS commands,
            CASE WHEN course >= 960 THEN 1 + ((h2 >> 59) & 1) ELSE 0 END::int AS downloads,
            CASE WHEN course %% 25 = 0 AND course >= 720 OR course BETWEEN 930 AND 955
                 THEN 1 + ((h2 >> 60) & 1) ELSE 0 END::int AS keys
    ) n
    CROSS JOIN LATERAL (
        SELECT
            ARRAY['uname -a', 'cat /proc/cpuinfo', 'nproc', 'free -m', 'w', 'ls -la /tmp',
                  'crontab -l', 'lscpu', 'cd /tmp', 'cd /var/run', 'rm -rf .ssh', 'history -c',
                  'pkill -9 xmrig', 'passwd', 'whoami', 'df -h'] AS actions,
            ARRAY['SSH-2.0-Go', 'SSH-2.0-libssh2_1.11.0', 'SSH-2.0-OpenSSH_8.9', 'SSH-2.0-PUTTY',
                  'SSH-2.0-libssh_0.9.6', 'SSH-2.0-paramiko_3.4.0', 'SSH-2.0-Go',
                  'SSH-2.0-Go'] AS clients
    ) s
    OFFSET 0
) rows
"""

_FILL_ADDRESSES = """
INSERT INTO ip_inventory
SELECT a.ip, a.asn, CASE WHEN a.asn IS NOT NULL THEN s.last + interval '1 hour' END,
       s.first, s.last, s.sessions, a.enrichment, s.last + interval '2 hours', '2.2',
       a.country, a.type, a.scanner, false, s.first + interval '5 minutes',
       s.last + interval '2 hours'
FROM demo_address a
JOIN (SELECT source_ip AS ip, min(first_event_at) AS first, max(last_event_at) AS last,
             count(*) AS sessions
      FROM session_summaries GROUP BY source_ip) s USING (ip)
ORDER BY s.first, a.ip
"""


@dataclass
class _Address:
    ip: str
    asn: int | None
    country: str | None
    type: str | None
    sessions: int


def create(
    conninfo: str,
    *,
    sessions: int,
    seed: int = DEFAULT_SEED,
    password: str | None = None,
) -> None:
    """Create the role and the database "cowrieprocessor", fill them, and vacuum and analyse.

    conninfo is a libpq connection string of a superuser; its database name is ignored. sessions is
    the number of rows of session_summaries. password becomes the role's password, where the server
    asks for one. The database is built under another name, its comment says
    {"sessions": …, "seed": …}, and it gets its own name last: it is there whole or not at all.

    Raises ValueError if sessions is out of range or if a database of this name exists already.
    """
    if not MIN_SESSIONS <= sessions <= MAX_SESSIONS:
        raise ValueError(f"sessions must be from {MIN_SESSIONS} to {MAX_SESSIONS}, not {sessions}")
    with psycopg.connect(conninfo, dbname="postgres", autocommit=True) as admin:
        _create_role_and_database(admin, password)
        with psycopg.connect(conninfo, dbname=_UNFINISHED, autocommit=True) as connection:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))
            _set_for_bulk_load(connection)
            with connection.transaction():
                _load(connection, sessions, seed)
            connection.execute("VACUUM (FREEZE, ANALYZE) session_summaries, ip_inventory")
        unfinished = sql.Identifier(_UNFINISHED)
        comment = json.dumps({"sessions": sessions, "seed": seed})
        admin.execute("CHECKPOINT")
        admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(unfinished, comment))
        admin.execute(
            sql.SQL("ALTER DATABASE {} RENAME TO {}").format(unfinished, sql.Identifier(DATABASE))
        )


def describe(connection: psycopg.Connection) -> dict[str, int] | None:
    """Return sessions and seed of the demo database of this server, or None."""
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
        [DATABASE],
    ).fetchone()
    return json.loads(row[0]) if row and row[0] and row[0].startswith("{") else None


def _create_role_and_database(admin: psycopg.Connection, password: str | None) -> None:
    query = "SELECT 1 FROM pg_database WHERE datname = %s"
    if admin.execute(query, [DATABASE]).fetchone() is not None:
        raise ValueError(f"database {DATABASE} exists already")
    role, database = sql.Identifier(ROLE), sql.Identifier(_UNFINISHED)
    query = "SELECT 1 FROM pg_roles WHERE rolname = %s"
    if admin.execute(query, [ROLE]).fetchone() is None:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    if password is not None:
        admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
    admin.execute(
        sql.SQL(
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' "
            "LOCALE_PROVIDER libc"
        ).format(database, role)
    )


def _set_for_bulk_load(connection: psycopg.Connection) -> None:
    settings = {
        "timezone": "UTC",
        "synchronous_commit": "off",
        "work_mem": "256MB",
        "maintenance_work_mem": "512MB",
        "temp_buffers": "256MB",
        "jit": "off",
        "statement_timeout": "0",
    }
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])


def _load(connection: psycopg.Connection, sessions: int, seed: int) -> None:
    parameters = {"seed": seed, "epoch_ms": _epoch_ms(connection)}
    connection.execute(_TABLES)
    connection.execute(_PLAN_TABLE)
    with connection.cursor().copy("COPY demo_address FROM STDIN") as copy:
        for row in _plan_rows(sessions, seed):
            copy.write_row(row)
    connection.execute("ANALYZE demo_address")
    literals = psycopg.ClientCursor(connection)
    literals.execute(_FILL_TIMELINE, parameters)
    connection.execute("ANALYZE demo_timeline")
    literals.execute(_FILL_SESSIONS, parameters)
    connection.execute("ANALYZE session_summaries (source_ip)")
    connection.execute(_FILL_ADDRESSES)
    connection.execute(_CONSTRAINTS)
    for table, indexes in (
        ("session_summaries", _SESSION_INDEXES),
        ("ip_inventory", _ADDRESS_INDEXES),
    ):
        for name, columns in indexes.items():
            connection.execute(
                sql.SQL("CREATE INDEX {} ON {} ({})").format(
                    sql.Identifier(name),
                    sql.Identifier(table),
                    sql.SQL(", ").join(map(sql.Identifier, columns)),
                )
            )
    connection.execute("DROP TABLE demo_timeline, demo_address")


def _epoch_ms(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT (extract(epoch FROM %s::timestamptz) * 1000)::bigint", [_EPOCH]
    ).fetchone()
    assert row is not None
    return int(row[0])


def _plan_rows(sessions: int, seed: int) -> Iterator[tuple[object, ...]]:
    """Yield the rows of demo_address; the last one stands for the sessions without an address."""
    rng = random.Random(seed)
    without_address = max(1, round(0.003 * sessions))
    slot = 0
    for address in _addresses(sessions - without_address, _address_count(sessions), rng):
        scanner = rng.random() < 0.3
        heavy = address.sessions * 1000 > sessions
        length = int(_SPAN_MS * (0.4 + 0.6 * rng.random() if heavy else rng.random() ** 2 + 0.001))
        length = min(length, _SPAN_MS)
        start = int((_SPAN_MS - length) * rng.random())
        document = json.dumps(_enrichment(address, scanner, rng))
        values = (address.ip, address.asn, address.country, address.type, scanner, document)
        yield (*values, address.sessions, slot, start, length)
        slot += address.sessions
    yield (None, None, None, None, False, None, without_address, slot, 0, _SPAN_MS)


def _address_count(sessions: int) -> int:
    return max(_MIN_ADDRESSES, round(sessions * _PRODUCTION_ADDRESSES / _PRODUCTION_SESSIONS))


def _addresses(sessions: int, count: int, rng: random.Random) -> list[_Address]:
    """Spread the sessions over count addresses, a few of which make most of them."""
    addresses: list[_Address] = []
    networks = _NETWORKS[: count // 2]
    for asn, country, share, types in networks:
        counts = _zipf(round(sessions * share), max(1, round(count * share * 0.5)))
        for number, type_ in zip(counts, _by_share(counts, types), strict=True):
            addresses.append(_Address("", asn, country, type_, number))

    rest = count - len(addresses)
    counts = _zipf(sessions - sum(address.sessions for address in addresses), rest)
    invented = max(5, rest // 12)
    countries = _OTHER_COUNTRIES.split()
    for number, type_ in zip(counts, _by_share(counts, _MIXED), strict=True):
        choice = int(invented * rng.random() ** 2)
        country = countries[choice * 7919 % len(countries)]
        addresses.append(_Address("", _FIRST_INVENTED_ASN + choice, country, type_, number))

    for number, address in enumerate(addresses):
        address.ip = _ip_address(number)
    _remove_values(addresses, rng)
    return addresses


def _zipf(total: int, count: int) -> list[int]:
    """Divide total into count parts of at least 1, the k-th about proportional to 1/(k + 3)."""
    weights = [10**12 // (rank + 3) for rank in range(count)]
    weight_sum = sum(weights)
    spare = max(0, total - count)
    parts = [1 + spare * weight // weight_sum for weight in weights]
    for rank in range(max(0, total - sum(parts))):
        parts[rank % count] += 1
    return parts


def _by_share(weights: Sequence[int], shares: Mapping[str, float]) -> list[str]:
    """Label each weight so that the labels' sums come as near to their shares as they can."""
    given = dict.fromkeys(shares, 0.0)
    labels, total = [], 0
    for weight in weights:
        total += weight
        label = max(given, key=lambda name: shares[name] * total - given[name])
        given[label] += weight
        labels.append(label)
    return labels


def _remove_values(addresses: Sequence[_Address], rng: random.Random) -> None:
    """Make the enrichment of some addresses incomplete, none of them among the busiest fifth."""
    count = len(addresses)
    busiest = sorted(range(count), key=lambda number: -addresses[number].sessions)
    pool = iter(sorted(busiest[count // 5 :], key=lambda _: rng.random()))
    empty = max(1, round(0.002 * count))
    for _ in range(empty):
        address = addresses[next(pool)]
        address.asn = address.country = address.type = None
    for _ in range(max(1, round(0.010 * count) - empty)):
        addresses[next(pool)].country = None
    for _ in range(max(1, round(0.015 * count) - empty)):
        addresses[next(pool)].type = None
    for _ in range(max(1, round(0.002 * count))):
        addresses[next(pool)].asn = None


def _ip_address(number: int) -> str:
    scattered = number * 0x9E3779B1
    if number % 50 == 49:
        return f"2001:db8:{scattered >> 16 & 0xFFFF:x}:{scattered & 0xFFFF:x}::{number:x}"
    value = 0xF0000000 | scattered & 0x0FFFFFFF
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _enrichment(address: _Address, scanner: bool, rng: random.Random) -> dict[str, object]:
    """Return the document that the country and the type are taken from."""
    document: dict[str, object] = {
        "greynoise": {"noise": scanner},
        "validation": {"is_bogon": False},
    }
    if address.country is not None:
        document["maxmind"] = {"country": address.country}
    if address.asn is not None:
        document["cymru"] = {"asn": address.asn, "registry": "demo"}
        if address.country is not None:
            document["cymru"] |= {"country": address.country}  # type: ignore[operator]
    if address.type is not None:
        document["spur"] = {"client": {"types": address.type, "count": int(9 * rng.random())}}
    document["dshield"] = {"ip": {"count": int(5000 * rng.random()), "attacks": address.sessions}}
    return document


def main() -> None:
    """Create the database on a server that runs already."""
    parser = argparse.ArgumentParser(prog="python -m demo.data", description=main.__doc__)
    parser.add_argument("conninfo", help="libpq connection string of a superuser")
    parser.add_argument("--sessions", type=int, required=True, help="rows of session_summaries")
    arguments = parser.parse_args()
    create(arguments.conninfo, sessions=arguments.sessions)


if __name__ == "__main__":
    main()
