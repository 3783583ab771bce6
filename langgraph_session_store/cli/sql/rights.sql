-- rights: what the role may not do with the table and its companions; whether it owns the table, or may create one
SELECT
    to_regclass(%(table)s) IS NOT NULL,
    ARRAY(
        SELECT word FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS word
        WHERE NOT has_table_privilege(to_regclass(%(table)s), word)
    ),
    ARRAY(
        SELECT name FROM unnest(%(companions)s::text[]) AS name, unnest(ARRAY['SELECT', 'INSERT', 'DELETE']) AS word
        WHERE NOT has_table_privilege(to_regclass(name), word)
        GROUP BY name
    ),
    (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%(table)s)),
    coalesce(has_schema_privilege(coalesce(%(schema)s::text, current_schema()), 'CREATE'), FALSE),
    current_user
