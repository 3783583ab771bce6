-- rights: which rights the role has to the relations, NULL for those that are missing; whether it owns the table, or may create one
SELECT
    to_regclass(%(table)s) IS NOT NULL,
    ARRAY(
        SELECT has_table_privilege(to_regclass(relation), word)
        FROM unnest(%(relations)s::text[], %(rights)s::text[]) WITH ORDINALITY AS needed (relation, word, place)
        ORDER BY place
    ),
    (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass(%(table)s)),
    coalesce(has_schema_privilege(coalesce(%(schema)s::text, current_schema()), 'CREATE'), FALSE),
    quote_ident(current_user)
