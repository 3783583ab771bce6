-- sqlite_count: how many threads there are behind one
WITH RECURSIVE held AS (
    SELECT min(thread_id) AS thread_id FROM checkpoints WHERE checkpoint_ns = '' AND thread_id > :after
    UNION ALL
    SELECT (SELECT min(c.thread_id) FROM checkpoints AS c WHERE c.checkpoint_ns = '' AND c.thread_id > held.thread_id)
    FROM held WHERE held.thread_id IS NOT NULL
)
SELECT count(thread_id) AS threads FROM held
