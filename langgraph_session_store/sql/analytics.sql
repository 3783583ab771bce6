-- analytics: the sessions that match are read once and summed per cell of all dimensions, the cells per set of them; percentiles stand beside
WITH base AS MATERIALIZED (
    SELECT {dimensions}, {columns} FROM {table} WHERE {condition}
),
cells AS (
    SELECT {keys}, {parts} FROM base GROUP BY {cell}
)
SELECT {keys}, GROUPING({keys}), {measures}, NULL AS p50, NULL AS p95
FROM cells
GROUP BY GROUPING SETS ({sets})
UNION ALL
SELECT {slice_keys}, {slice_bits}, {nothing},
    percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds), percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds)
FROM base
WHERE duration_seconds IS NOT NULL
GROUP BY GROUPING SETS ({slices})
