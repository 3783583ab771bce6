-- create_summary: the sessions at a glance
CREATE OR REPLACE VIEW {summary} AS
SELECT {columns}
FROM {table}
