-- latest_versions: the last line of each thread's history
SELECT DISTINCT ON (thread_id) thread_id, recorded_at, content__digests, {columns}
FROM {versions}
WHERE thread_id = ANY (%(threads)b::text[])
ORDER BY thread_id, recorded_at DESC
