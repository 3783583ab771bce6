-- inspect: what the database holds under the table's names, from the catalogs alone, which every role may read
WITH names AS (
    SELECT
        to_regclass(%(table)s) AS t,
        to_regclass(%(versions)s) AS v,
        to_regclass(%(erased)s) AS e,
        to_regclass(%(summary)s) AS s
)
SELECT jsonb_build_object(
    'schema_exists', EXISTS (SELECT FROM pg_namespace WHERE nspname = %(schema)s),
    'kind', (SELECT relkind FROM pg_class WHERE oid = t),
    'comment', obj_description(t, 'pg_class'),
    'columns', (
        SELECT jsonb_object_agg(attname, jsonb_build_object(
            'type', format_type(atttypid, atttypmod),
            'base', atttypid::bigint,
            'required', attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = ''
        ))
        FROM pg_attribute WHERE attrelid = t AND attnum > 0 AND NOT attisdropped
    ),
    'wanted', (
        SELECT jsonb_object_agg(name, coalesce(to_regtype(type)::oid::bigint, 0))
        FROM unnest(%(names)s::text[], %(types)s::text[]) AS wanted (name, type)
    ),
    'keys', (
        SELECT jsonb_agg(jsonb_build_object(
            'name', (SELECT relname FROM pg_class WHERE oid = indexrelid),
            'primary', indisprimary,
            'columns', (SELECT jsonb_agg(attname ORDER BY attname) FROM pg_attribute WHERE attrelid = t AND attnum = ANY (indkey))
        ))
        FROM pg_index WHERE indrelid = t AND indisunique AND indimmediate AND indpred IS NULL AND indexprs IS NULL
    ),
    'indexes', (SELECT jsonb_agg(relname) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = t),
    'versions', (SELECT jsonb_agg(attname) FROM pg_attribute WHERE attrelid = v AND attnum > 0 AND NOT attisdropped),
    'erased', e IS NOT NULL,
    'summary', (SELECT jsonb_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = s AND attnum > 0),
    'view_options', (SELECT to_jsonb(reloptions) FROM pg_class WHERE oid = s),
    'readers', (
        SELECT jsonb_agg(DISTINCT ev_class::regclass::text)
        FROM pg_depend
        JOIN pg_rewrite ON pg_rewrite.oid = objid AND classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
        WHERE refobjid IN (t, s) AND ev_class NOT IN (t, coalesce(s, t)) AND (refobjid = s OR refobjsubid IN (
            SELECT attnum FROM pg_attribute WHERE attrelid = t AND attname IN ('created_at', 'updated_at')
        ))
    ),
    'trigger', EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t AND tgname = %(trigger)s),
    'citus', EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'),
    'trigram', EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
)
FROM names
