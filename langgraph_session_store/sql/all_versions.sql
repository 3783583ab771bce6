-- all_versions: every line of these threads' histories
SELECT thread_id, recorded_at, content__digests, {columns}
FROM {versions}
WHERE thread_id = ANY (%(threads)b::text[])
ORDER BY thread_id, recorded_at
