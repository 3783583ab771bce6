-- create_schema: the schema that was named
CREATE SCHEMA IF NOT EXISTS {schema}
