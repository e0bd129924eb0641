# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what several modules share. Written by `make generate` from the declarations of the options."""

from __future__ import annotations


class ModuleDocFragment:
    LOGIN = r"""
options:
  login:
    description:
    - How to reach the database, under the names of libpq's connection parameters. What is left out
      is taken from libpq's environment variables and defaults.
    type: dict
    required: true
    suboptions:
      host:
        description:
        - Host name, address, or directory of the Unix-domain socket. Several, with commas between
          them, are tried in turn.
        type: str
      port:
        description:
        - Port number; or one for each host, with commas between them.
        type: str
      dbname:
        description:
        - Database name.
        type: str
      user:
        description:
        - Role to connect as. It must own the table to be changed.
        type: str
      password:
        description:
        - Password. It is never shown; a O(login.passfile) keeps it out of variables.
        type: str
      passfile:
        description:
        - Password file, as in libpq's documentation.
        type: path
      service:
        description:
        - Service name in the connection service file.
        type: str
      sslmode:
        description:
        - TLS mode, such as V(verify-full).
        type: str
      sslrootcert:
        description:
        - File with the certificates of the authorities to trust.
        type: path
      sslcert:
        description:
        - File with the client's certificate.
        type: path
      sslkey:
        description:
        - File with the client's private key.
        type: path
      target_session_attrs:
        description:
        - Which of several hosts to take, such as V(read-write). Where O(login.host) has several,
          V(primary) unless set.
        type: str
      connect_timeout:
        description:
        - Seconds to wait for a connection.
        type: int
        default: 10
requirements:
- PostgreSQL 14 or newer
- psycopg 3.1 or newer, where the module runs
- prometheus_client, where the module runs, for metrics
author:
- The pgrunbook authors (@pgrunbook)
"""

    RUN = r"""
options:
  run:
    description:
    - Which run this is. The module changes nothing unless the ledger holds a person's approval of
      a plan with this hash that lists what the module is about to do.
    - The module is refused on another server than the one that the run was planned on, or a standby
      of it that was promoted since and has the approval. It takes the phase from the approved plan,
      whatever O(ignore:spec) says.
    - Take it from the RV(ignore:run) that M(pgrunbook_plan) returned.
    type: dict
    suboptions:
      id:
        description:
        - The run's id.
        type: str
        required: true
      plan_hash:
        description:
        - SHA-256 of the plan, in hexadecimal.
        type: str
        required: true
      execution:
        description:
        - Which execution of the playbook owns the run.
        type: str
        required: true
      server:
        description:
        - Which server and history of it the run was planned on, or after a failover is on now.
        type: dict
        default: {}
      reconnect_seconds:
        description:
        - For how many seconds a module waits for a primary, and goes on there, where its connection
          is lost.
        type: int
        default: 0
    required: true
"""

    OF_RUN = r"""
options:
  run:
    description:
    - Which run this belongs to. Once it is approved, thresholds, gates and queries are those of the
      approved plan, whatever O(spec) says; and the module is refused on another server than the one
      that the run was planned on, or a standby of it that was promoted since. Without it O(spec)
      is taken as it is.
    type: dict
    suboptions:
      id:
        description:
        - The run's id.
        type: str
        required: true
      plan_hash:
        description:
        - SHA-256 of the plan, in hexadecimal.
        type: str
        required: true
      execution:
        description:
        - Which execution of the playbook owns the run.
        type: str
        required: true
      server:
        description:
        - Which server and history of it the run was planned on, or after a failover is on now.
        type: dict
        default: {}
      reconnect_seconds:
        description:
        - For how many seconds a module waits for a primary, and goes on there, where its connection
          is lost.
        type: int
        default: 0
"""

    WRITES = r"""
attributes:
  check_mode:
    description:
    - Reads in READ ONLY transactions and returns what would be done.
    support: full
  diff_mode:
    description:
    - Returns what it changes, or would change, as before and after.
    support: full
"""

    READS = r"""
attributes:
  check_mode:
    description:
    - The module only reads, in READ ONLY transactions, in either mode.
    support: full
  diff_mode:
    description:
    - The module changes nothing.
    support: none
"""

    CONTROLLER = r"""
attributes:
  check_mode:
    description:
    - It does the same in either mode, by an action plugin on the controller.
    support: full
  diff_mode:
    description:
    - The module changes nothing.
    support: none
author:
- The pgrunbook authors (@pgrunbook)
"""
