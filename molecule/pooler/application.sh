# An application at work on a pool of PgBouncer until there is a file /tmp/stop: sh -s <database>. It
# logs in as the runbook does, because a pool is of one role. Each of its transactions is in a
# session of its own, writes a row, and fails where a session is not as a new one is. Prints how many
# there were, and what pgbench says of those that failed. Runs in the container as the user postgres.
set -u
script=$(mktemp)
cat >"$script" <<'SQL'
\set n random(0, 4999)
UPDATE session_summaries SET source_ip = source_ip
    WHERE session_id = (SELECT session_id FROM session_summaries OFFSET :n LIMIT 1);
SELECT 1 / (current_setting('default_transaction_read_only') = 'off'
    AND current_setting('search_path') = '"$user", public'
    AND current_setting('lock_timeout') = '0' AND current_setting('statement_timeout') = '0'
    AND current_setting('row_security') = 'on' AND current_setting('jit') = 'on'
    AND NOT EXISTS (SELECT FROM pg_prepared_statements)
    AND NOT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
    )::int;
SQL
export PGPASSFILE=/var/lib/postgresql/.pgpass
transactions=0
failures=
while [ ! -e /tmp/stop ]; do
    if said=$(/usr/lib/postgresql/17/bin/pgbench --no-vacuum --connect --client 3 --transactions 20 \
        --file "$script" --host 127.0.0.1 --port 6432 --username pgrunbook "$1" 2>&1); then
        transactions=$((transactions + 60))
    else
        failures="$failures$said
"
    fi
done
rm /tmp/stop "$script"
echo "$transactions transactions"
echo "$failures"
