-- postgres_ids: the first, the latest and the latest input checkpoint of these threads
SELECT w.thread_id,
    (SELECT min(c.checkpoint_id) FROM checkpoints AS c WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = '') AS first,
    (SELECT max(c.checkpoint_id) FROM checkpoints AS c WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = '') AS latest,
    (SELECT c.checkpoint_id FROM checkpoints AS c
     WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = '' AND c.metadata ->> 'source' = 'input'
     ORDER BY c.checkpoint_id DESC LIMIT 1) AS input
FROM unnest(%(threads)s::text[]) AS w (thread_id)
