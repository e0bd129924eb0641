# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what several modules share. Written by `make generate` from the declarations of the options."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  spec:
    description:
    - The whole phase. C(playbooks/vars/spec.yml) assembles it from the C(phase_*) variables.
    type: dict
    required: true
    suboptions:
      phase:
        description:
        - 'Short name of the phase: letters, digits, dots, hyphens and underscores. Run ids and report
          folders begin with it.'
        type: str
        required: true
      title:
        description:
        - What people call the phase, if not by its name.
        type: str
        default: ''
      schema:
        description:
        - 'Schema of the table to be changed: an ordinary table, or a partitioned one.'
        type: str
        default: public
      table:
        description:
        - 'The table to be changed: an ordinary table, or a partitioned one.'
        type: str
        required: true
      key:
        description:
        - Columns of a unique index, NOT NULL, that tells the table's rows apart. It may be empty
          with O(spec.waive_rollback).
        type: list
        elements: str
        required: true
      columns:
        description:
        - The columns that the phase needs and fills.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
            - The column's right name.
            type: str
            required: true
          type:
            description:
            - The column's right SQL type. Any other type stops the run, apart from O(ignore:converted_from).
            type: str
            required: true
          source:
            description:
            - SQL expression on the columns of the source table, such as V(ip_types[1]) or V(enrichment->>'type').
              It is tried in a READ ONLY transaction first.
            type: str
            required: true
          renamed_from:
            description:
            - The wrong name that the column may still bear.
            type: str
          converted_from:
            description:
            - Another type that the column may still have, as psql's C(\d) shows it. The column is
              then put aside, a new one takes its place, and the backfill moves its values.
            type: str
          using:
            description:
            - SQL expression that turns a value of that type into one of the right type, such as V({snapshot_ip_type}[1]),
              with the column's right name in braces. It goes with O(ignore:converted_from).
            type: str
          coverage_min:
            description:
            - Per cent of all rows that must have a value in this column afterwards, in place of O(ignore:coverage_min)
              of the phase.
            type: float
      source_schema:
        description:
        - Schema of the table or view that the values come from, with one row for each key.
        type: str
        default: public
      source_table:
        description:
        - The table or view that the values come from, with one row for each key.
        type: str
        required: true
      source_key:
        description:
        - Which column of the table refers to which column of the source.
        type: dict
        required: true
      indexes:
        description:
        - Indexes that the phase needs on the table. Those of a partitioned table are built on each
          partition.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
            - The index's right name.
            type: str
            required: true
          columns:
            description:
            - Its columns in order, under their right names.
            type: list
            elements: str
            required: true
          renamed_from:
            description:
            - The name that an index of the same definition may still bear.
            type: str
          include:
            description:
            - Columns that it only holds (INCLUDE), so that a query which reads no others needs the
              index alone.
            type: list
            elements: str
            default: []
          where:
            description:
            - The condition on the rows that are in it, an SQL expression on columns under their right
              names. It may call nothing whose value changes. Empty means all rows.
            type: str
            default: ''
          method:
            description:
            - The kind of index. Each column has its type's usual operator class.
            type: str
            default: btree
            choices:
            - btree
            - hash
            - gist
            - spgist
            - gin
            - brin
      acknowledged:
        description:
        - 'What may happen although it would stop the run, as the message that asks for it spells
          it: functions whose body has an old column name, triggers that fire for every row, volatile
          functions, values that are moved to a column of another type.'
        type: list
        elements: str
        default: []
      acknowledged_drift:
        description:
        - Differences from the models that may be, by the RV(ignore:object) that M(pgrunbook_drift)
          returns of each.
        type: list
        elements: str
        default: []
      trusted_roles:
        description:
        - Roles whose code may run as the login role, because they may create functions and operators
          in the schemas of the two tables, or own what the phase reads. The owners of these schemas
          and of the phase's table, and superusers, are trusted without being named.
        type: list
        elements: str
        default: []
      superuser:
        description:
        - What to do where the login role is a superuser. V(refuse) stops in the preflight, V(warn)
          shows it.
        type: str
        default: warn
        choices:
        - refuse
        - warn
      strategy:
        description:
        - The way through the table. V(interleaved) makes most updates heap-only, without the indexes
          on the filled columns, which are built again afterwards. V(ranges) goes from page to page,
          V(keyset) in the order of the key. V(auto) chooses, and says why.
        type: str
        default: auto
        choices:
        - auto
        - interleaved
        - ranges
        - keyset
      workers:
        description:
        - In how many threads the backfill, and a rollback, works. Each has a connection of its own;
          one more watches.
        type: int
        default: 1
      batch_rows:
        description:
        - 'The most rows that a batch, which is one transaction, changes. Where values are large there
          are fewer: those of a batch are about 16 MB together.'
        type: int
        default: 5000
      batch_target_ms:
        description:
        - How long a batch should take. Its size adapts to that.
        type: int
        default: 20
      canary_rows:
        description:
        - How many rows are filled and compared before the second approval.
        type: int
        default: 10000
      slice_seconds:
        description:
        - For how long the backfill works between two lines of progress.
        type: int
        default: 5
      lock_timeout_ms:
        description:
        - How long a statement waits for a lock. Index builds have 30 minutes.
        type: int
        default: 500
      lock_tries:
        description:
        - How often a statement is tried before a lock that is not to be had is an error. The pause
          between two tries doubles, from 1 s to 60 s, with jitter.
        type: int
        default: 10
      window_start:
        description:
        - Start of the maintenance window, ISO 8601 with offset. A dry run and a plan may be made
          before it, and nothing is written. Empty means that it is open.
        type: str
        default: ''
      window_end:
        description:
        - End of the maintenance window, ISO 8601 with offset, such as V(2026-01-31T04:00:00+00:00).
          Empty means no end.
        type: str
        default: ''
      waive_rollback:
        description:
        - Keep nothing that a rollback needs, so that what is filled cannot be taken back. A table
          without a unique index needs it.
        type: bool
        default: false
      unfillable_max:
        description:
        - How many rows may be set aside because the server refuses what they would get, such as a
          value that a CHECK constraint forbids. With more of them nothing is begun, or the run stops.
        type: int
        default: 0
      max_replay_lag_seconds:
        description:
        - Replay lag of the slowest standby above which the backfill is throttled.
        type: float
        default: 10.0
      max_lock_waiters:
        description:
        - Sessions waiting for locks of the backfill above which it is throttled.
        type: int
        default: 0
      max_active_sessions:
        description:
        - Active client sessions more than when the run began above which it is throttled.
        type: int
        default: 16
      max_unarchived_wal_mb:
        description:
        - WAL that is not archived yet above which the backfill is throttled. 1 MB is 1,000,000 bytes.
        type: int
        default: 1024
      max_wal_mb_per_second:
        description:
        - WAL that the whole server writes above which the backfill is throttled.
        type: int
        default: 200
      max_commit_ms:
        description:
        - 'How long a small commit may take while batches run: above that they get shorter, and then
          workers rest between them. 0 is off.'
        type: float
        default: 0.0
      max_probe_ratio:
        description:
        - How many times as long as before the run O(spec.probe_query) may take, with the same effect.
          0 is off.
        type: float
        default: 0.0
      probe_query:
        description:
        - A query that the application does often, which is timed about ten times a second while batches
          run. V({table}), V({source}) and the phase's columns in braces are replaced by quoted names.
          It may only read. Empty times none.
        type: str
        default: ''
      gates:
        description:
        - Whether a gate that is missed makes the verdict NO-GO (V(enforce)) or is a warning (V(warn)),
          by the gate's id. One that is not named keeps its default. Each query has an RV(ignore:enforce)
          of its own.
        type: dict
        default: {}
      coverage_min:
        description:
        - Per cent of all rows that must have a value afterwards, in each column that has no RV(ignore:coverage_min)
          of its own.
        type: float
        default: 95.0
      accuracy_min:
        description:
        - Per cent of the compared rows that must equal their source.
        type: float
        default: 99.0
      kept_values:
        description:
        - How a value counts that was kept from a column of another type and differs from the source.
          V(apart) leaves its row out of the comparison and tells how many there are, V(equal) counts
          it as equal, V(differ) as different.
        type: str
        default: apart
        choices:
        - apart
        - equal
        - differ
      sample_rows:
        description:
        - Size of the random sample.
        type: int
        default: 1000
      sample_seed:
        description:
        - Seed of the random sample. The same seed gives the same rows.
        type: int
        default: 7
      counts:
        description:
        - How a plan counts the rows of a large table. V(exact) reads all of them, V(estimate) some
          pages, unless what is estimated leaves a decision open; V(auto) estimates in a dry run only.
        type: str
        default: auto
        choices:
        - auto
        - exact
        - estimate
      speedup_min:
        description:
        - How many times better a query must be than the one that it replaces.
        type: float
        default: 5.0
      repetitions:
        description:
        - How often each query is timed, but 6 times at least; up to ten times as often where it is
          too close to call. The median counts.
        type: int
        default: 11
      index_advice:
        description:
        - What to do with the index that would serve a query that misses its speed-up. V(estimate)
          tells its size and build time, V(try) builds it, measures the query again and drops it,
          V(keep) keeps it if the query then meets its speed-up.
        type: str
        default: estimate
        choices:
        - estimate
        - try
        - keep
      signatures_min:
        description:
        - How many people have to sign the plan of a run with their SSH keys before it begins.
        type: int
        default: 0
      operator_may_sign:
        description:
        - Whether the signature of who runs the playbook counts too.
        type: bool
        default: false
      queries:
        description:
        - Pairs of queries that must give equal results. It may be empty.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description:
            - What the query answers.
            type: str
            required: true
          snapshot:
            description:
            - The query on the filled columns. V({table}), V({source}) and the phase's columns in
              braces are replaced by quoted names; any other brace must be doubled.
            type: str
            required: true
          baseline:
            description:
            - The query that it replaces, with the same placeholders.
            type: str
            required: true
          enforce:
            description:
            - Whether a miss makes the verdict NO-GO. Otherwise it is a warning.
            type: bool
            default: true
"""
