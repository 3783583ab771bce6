-- analytics_whole: the numbers of the whole table from indexes alone: one holds what is counted, one has the durations in order
WITH cells AS MATERIALIZED (
    SELECT {keys}, {parts} FROM (SELECT {dimensions}, {columns} FROM {table}) AS base GROUP BY {cell}
),
timed AS MATERIALIZED (
    SELECT (coalesce(sum(n__), 0) - (SELECT count(*) FROM {table} WHERE duration_seconds IS NULL) - 1)::double precision AS last
    FROM cells
)
SELECT {keys}, GROUPING({keys}), {measures},
    (
        SELECT min(d) + (max(d) - min(d)) * (SELECT 0.5 * last - floor(0.5 * last) FROM timed)
        FROM (
            SELECT duration_seconds AS d FROM {table} WHERE duration_seconds IS NOT NULL
            ORDER BY duration_seconds NULLS FIRST
            OFFSET (SELECT greatest(floor(0.5 * last), 0)::bigint FROM timed) LIMIT 2
        ) AS middle
    ),
    (
        SELECT max(d) - (max(d) - min(d)) * (SELECT ceil(0.95 * last) - 0.95 * last FROM timed)
        FROM (
            SELECT duration_seconds AS d FROM {table} WHERE duration_seconds IS NOT NULL
            ORDER BY duration_seconds DESC NULLS LAST
            OFFSET (SELECT greatest(last - ceil(0.95 * last), 0)::bigint FROM timed) LIMIT 2
        ) AS slowest
    )
FROM cells
GROUP BY GROUPING SETS ({sets})
