-- create_summary: the sessions at a glance; what is not named among the options of a view that is there would be reset
CREATE OR REPLACE VIEW {summary}{options} AS
SELECT {columns}
FROM {table}
