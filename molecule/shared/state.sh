# What the server holds, to compare before and after. Runs in the container as the user postgres.
# places has a hash for every table and catalog of the database, over each row, where it lies and
# which transaction wrote it; dump is one hash of what pg_dump writes of all but the ledger, in any
# order.
set -eu
dump=$(pg_dump --exclude-schema=pgrunbook --restrict-key=none cowrieprocessor | LC_ALL=C sort | sha256sum | cut -c1-64)
psql --no-psqlrc --tuples-only --no-align --dbname cowrieprocessor --set "dump=$dump" <<'SQL'
SELECT json_build_object(
    'dump', :'dump',
    'next_transaction', pg_snapshot_xmax(pg_current_snapshot())::text,
    'settings', (
        SELECT json_object_agg(name, setting ORDER BY name) FROM pg_settings
        WHERE source NOT IN ('client', 'session')),
    'role_settings', (
        SELECT coalesce(json_agg(s ORDER BY setdatabase, setrole), '[]') FROM pg_db_role_setting s),
    'places', (
        SELECT json_object_agg(c.oid::regclass, md5(query_to_xml(format(
            'SELECT ctid, xmin, t.* FROM %s t ORDER BY ctid', c.oid::regclass),
            true, false, '')::text))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname <> 'information_schema'));
SQL
