# SPDX-License-Identifier: GPL-3.0-or-later
"""The queries for what may refuse the rows of a table: constraints, unique indexes, domains. Of a
partition they give what it has not from its parent."""

from __future__ import annotations

from .. import catalog

GENERATED = """
SELECT a.attname AS name, pg_get_expr(d.adbin, d.adrelid) AS expression, a.attnotnull AS not_null
FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::oid AND a.attgenerated <> '' AND NOT a.attisdropped
"""

CHECKS = f"""
SELECT k.conname AS name, pg_get_expr(k.conbin, k.conrelid) AS expression,
       k.convalidated AS validated, 0 = ANY (k.conkey) AS whole_row,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)) AS mentions
FROM pg_constraint k
WHERE k.conrelid = %s::oid AND {catalog.ENFORCED}
AND (k.contype = 'c' OR k.contype = 'n' AND NOT k.convalidated)
AND (%s OR k.coninhcount = 0)
ORDER BY 1
"""

FOREIGN_KEYS = f"""
SELECT k.conname AS name, n.nspname AS schema, c.relname AS table, k.confmatchtype = 'f' AS full,
       coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) AS temporal,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, n)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
             ORDER BY u.n) AS columns,
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(attnum, n)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum
             ORDER BY u.n) AS referenced
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid = %s::oid AND k.contype = 'f' AND {catalog.ENFORCED} AND (%s OR k.conparentid = 0)
AND NOT EXISTS (SELECT FROM pg_constraint p  -- to each partition of the table that it refers to
                WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY 1
"""

UNIQUE = f"""
SELECT c.relname AS name, pg_get_expr(i.indpred, i.indrelid) AS predicate,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_too,
       ARRAY(SELECT pg_get_indexdef(c.oid, n, false)
               || coalesce(' COLLATE ' || nullif(i.indcollation[n - 1], 0)::regcollation::text, '')
             FROM generate_series(1, i.indnkeyatts) n ORDER BY n) AS keys,
       {catalog.MENTIONS} AS mentions
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::oid AND i.indisunique AND NOT i.indisexclusion AND i.indisready
AND (%s OR NOT c.relispartition) ORDER BY 1
"""

EXCLUSIONS = f"""
SELECT c.relname AS name, {catalog.MENTIONS} AS mentions
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s::oid AND i.indisexclusion AND (%s OR NOT c.relispartition) ORDER BY 1
"""

OWN = """
SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = %s::oid AND coninhcount = 0)
    OR EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               WHERE i.indrelid = %s::oid AND NOT c.relispartition
               AND (i.indisunique OR i.indisexclusion)) AS own
"""

DOMAINS = """
WITH RECURSIVE types AS (
    SELECT oid, typtype, typbasetype, typnotnull FROM pg_type WHERE oid = to_regtype(%s)
    UNION ALL
    SELECT y.oid, y.typtype, y.typbasetype, y.typnotnull
    FROM types t JOIN pg_type y ON y.oid = t.typbasetype WHERE t.typtype = 'd'
)
SELECT t.oid::regtype::text AS domain, k.conname AS name, pg_get_expr(k.conbin, 0) AS expression
FROM types t JOIN pg_constraint k ON k.contypid = t.oid AND k.contype = 'c'
UNION ALL
SELECT t.oid::regtype::text, 'NOT NULL', NULL FROM types t WHERE t.typtype = 'd' AND t.typnotnull
ORDER BY 1, 2
"""
