# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of the ledger, version by version."""

MIGRATIONS = {
    1: """
CREATE SCHEMA IF NOT EXISTS pgrunbook;
CREATE TABLE IF NOT EXISTS pgrunbook.run (
    id text PRIMARY KEY,
    phase text NOT NULL,
    table_name text NOT NULL,
    plan_hash text NOT NULL,
    execution text NOT NULL,
    operator text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'failed', 'finished', 'reverted')),
    verdict text,
    rows_eligible bigint NOT NULL,
    baseline jsonb NOT NULL,
    control text NOT NULL DEFAULT '' CHECK (control IN ('', 'pause', 'abort')),
    control_by text NOT NULL DEFAULT '',
    rows_per_second integer NOT NULL DEFAULT 0,
    sweep integer NOT NULL DEFAULT 0,
    next_page bigint NOT NULL DEFAULT 0,
    end_page bigint,
    next_key text[],
    unfinished jsonb NOT NULL DEFAULT '[]',
    pace jsonb NOT NULL DEFAULT '{}',
    active_sessions integer,
    seconds double precision NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz
);
CREATE TABLE IF NOT EXISTS pgrunbook.approval (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL REFERENCES pgrunbook.run,
    scope text NOT NULL CHECK (scope IN ('plan', 'backfill', 'rollback')),
    plan_hash text NOT NULL,
    plan jsonb NOT NULL,
    approved_by text NOT NULL,
    approved_from text NOT NULL,
    method text NOT NULL CHECK (method IN ('prompt', 'unattended')),
    approved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS pgrunbook.change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL REFERENCES pgrunbook.run,
    kind text NOT NULL,
    old text NOT NULL,
    new text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    undone_at timestamptz
);
CREATE TABLE IF NOT EXISTS pgrunbook.batch (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL REFERENCES pgrunbook.run,
    sweep integer NOT NULL,
    first_page bigint,
    last_page bigint,
    row_count integer NOT NULL,
    journal jsonb NOT NULL,
    milliseconds double precision NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reverted_at timestamptz,
    left_alone jsonb
);
CREATE INDEX IF NOT EXISTS batch_run_id ON pgrunbook.batch (run_id, id);
CREATE TABLE IF NOT EXISTS pgrunbook.event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body jsonb NOT NULL,
    previous text NOT NULL,
    hash text NOT NULL
);
CREATE INDEX IF NOT EXISTS event_run ON pgrunbook.event ((body ->> 'run'), id);
""",
    2: """
CREATE TABLE IF NOT EXISTS pgrunbook.ledger (
    version integer NOT NULL,
    token text NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS ledger_single ON pgrunbook.ledger ((true));
INSERT INTO pgrunbook.ledger (version, token) VALUES (2, gen_random_uuid()::text);
ALTER TABLE pgrunbook.run ADD COLUMN IF NOT EXISTS filled jsonb;
ALTER TABLE pgrunbook.approval ADD COLUMN IF NOT EXISTS claimed boolean;
ALTER TABLE pgrunbook.approval ADD COLUMN IF NOT EXISTS database_user text;
ALTER TABLE pgrunbook.approval ADD COLUMN IF NOT EXISTS controller_user text;
ALTER TABLE pgrunbook.approval ADD COLUMN IF NOT EXISTS execution text;
ALTER TABLE pgrunbook.batch ADD COLUMN IF NOT EXISTS xid bigint;
ALTER TABLE pgrunbook.batch ADD COLUMN IF NOT EXISTS merged jsonb;
ALTER TABLE pgrunbook.batch ADD COLUMN IF NOT EXISTS given_back integer;
ALTER TABLE pgrunbook.batch ADD COLUMN IF NOT EXISTS put_back integer;
ALTER TABLE pgrunbook.batch ADD COLUMN IF NOT EXISTS rewritten integer;
CREATE TABLE IF NOT EXISTS pgrunbook.unfillable (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id text NOT NULL REFERENCES pgrunbook.run,
    key jsonb NOT NULL,
    sqlstate text NOT NULL,
    message text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tried_again_at timestamptz
);
CREATE INDEX IF NOT EXISTS unfillable_run_id ON pgrunbook.unfillable (run_id);
""",
    3: """
ALTER TABLE pgrunbook.approval ADD COLUMN IF NOT EXISTS rollout jsonb;
""",
    4: """
ALTER TABLE pgrunbook.approval ADD COLUMN IF NOT EXISTS signatures jsonb;
""",
}
"""What makes each version of the one before it. Version 1 did not record that it is one. token
tells this ledger from every other, but not from its copies."""
