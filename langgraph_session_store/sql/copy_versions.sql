-- copy_versions: append lines whose contents and time are what their sessions' rows now hold; compressed values are copied as they are;
-- the threads are named twice for the planner, which would read the whole table for a join
INSERT INTO {versions} (thread_id, recorded_at, run_id, content__digests, {columns})
SELECT s.thread_id, s.recorded_at, d.run_id, d.digests::jsonb, {values}
FROM unnest({arrays}) AS d (thread_id, run_id, digests)
JOIN {table} AS s ON s.thread_id = d.thread_id
WHERE s.thread_id = ANY (%(thread_id)b::text[])
ON CONFLICT (thread_id, recorded_at) DO NOTHING
