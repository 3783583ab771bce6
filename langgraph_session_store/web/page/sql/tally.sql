-- tally: how many sessions have each status
SELECT workflow_status, count(*) FROM {table} WHERE {condition} GROUP BY workflow_status
