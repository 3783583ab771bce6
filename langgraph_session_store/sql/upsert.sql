-- upsert: events of one shape, one per thread, in one order everywhere so that writers cannot deadlock
INSERT INTO {table} AS s ({columns})
SELECT {values}
FROM unnest({arrays}) AS d ({names})
ORDER BY d.thread_id COLLATE "C"
ON CONFLICT (thread_id) DO UPDATE SET
    {updates}
WHERE {applies}
RETURNING s.thread_id, s.id, s.run_id, s.recorded_at
