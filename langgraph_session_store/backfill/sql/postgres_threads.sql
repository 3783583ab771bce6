-- postgres_threads: the next threads by id, one index probe each, however many checkpoints they have
WITH RECURSIVE held AS (
    SELECT min(thread_id) AS thread_id FROM checkpoints WHERE checkpoint_ns = '' AND thread_id > %(after)s
    UNION ALL
    SELECT (SELECT min(c.thread_id) FROM checkpoints AS c WHERE c.checkpoint_ns = '' AND c.thread_id > held.thread_id)
    FROM held WHERE held.thread_id IS NOT NULL
)
SELECT thread_id FROM held WHERE thread_id IS NOT NULL LIMIT %(most)s
