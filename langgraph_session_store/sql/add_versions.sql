-- add_versions: append lines to the history
INSERT INTO {versions} (thread_id, recorded_at, run_id, content__digests, {columns})
SELECT d.thread_id, d.recorded_at, d.run_id, d.digests::jsonb, {values}
FROM unnest({arrays}) AS d (thread_id, run_id, digests, recorded_at, {names})
ON CONFLICT (thread_id, recorded_at) DO NOTHING
