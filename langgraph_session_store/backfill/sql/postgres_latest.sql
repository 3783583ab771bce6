-- postgres_latest: the condition that picks these checkpoints, for the checkpointer's own SELECT
WHERE (thread_id, checkpoint_ns, checkpoint_id) IN (
    SELECT w.thread_id, '', w.checkpoint_id FROM unnest(%(threads)s::text[], %(ids)s::text[]) AS w (thread_id, checkpoint_id)
)
