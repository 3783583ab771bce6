-- near_versions: of each thread's history the lines between its first and its last event, and one more on either side;
-- the threads are named three times for the planner, which knows how many lines they have but not what a join leaves of them
SELECT v.thread_id, v.recorded_at, v.content__digests::text, {columns}
FROM (
    SELECT k.thread_id,
        coalesce(max(k.recorded_at) FILTER (WHERE k.recorded_at <= e.first), '-infinity') AS low,
        coalesce(min(k.recorded_at) FILTER (WHERE k.recorded_at > e.last), 'infinity') AS high
    FROM unnest(%(threads)b::text[], %(first)b::timestamptz[], %(last)b::timestamptz[]) AS e (thread_id, first, last)
    JOIN {versions} AS k ON k.thread_id = e.thread_id
    WHERE k.thread_id = ANY (%(threads)b::text[])
    GROUP BY k.thread_id
) AS n
JOIN {versions} AS v ON v.thread_id = n.thread_id AND v.recorded_at BETWEEN n.low AND n.high
WHERE v.thread_id = ANY (%(threads)b::text[])
