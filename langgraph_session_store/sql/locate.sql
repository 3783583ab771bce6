-- locate: the schema that holds the table or, while there is none, would get it
SELECT coalesce(
    %(schema)s::text,
    (SELECT n.nspname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%(table)s)),
    current_schema()
)
