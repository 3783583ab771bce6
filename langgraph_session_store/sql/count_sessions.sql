-- count_sessions: how many sessions match
SELECT count(*) FROM {table} WHERE {condition}
