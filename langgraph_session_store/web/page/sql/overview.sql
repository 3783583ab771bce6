-- overview: the latest sessions that match, by time, by two fields, by a number and by duration, in one pass over them
WITH latest AS MATERIALIZED (
    SELECT created_at, workflow_status, duration_seconds, {first} AS first, {second} AS second, {number} AS number, {passed} AS passed,
        CASE
            WHEN workflow_status <> 'failed' THEN NULL
            WHEN error IS NOT NULL THEN left(split_part(error, ':', 1), 60)
            ELSE ''
        END AS cause
    FROM {table}
    WHERE {condition}
    ORDER BY created_at DESC
    LIMIT %(most)s
),
scale AS (
    SELECT
        CASE
            WHEN max(created_at) - min(created_at) < interval '2 minutes' THEN interval '5 seconds'
            WHEN max(created_at) - min(created_at) < interval '40 minutes' THEN interval '1 minute'
            WHEN max(created_at) - min(created_at) < interval '5 hours' THEN interval '10 minutes'
            WHEN max(created_at) - min(created_at) < interval '60 hours' THEN interval '1 hour'
            WHEN max(created_at) - min(created_at) < interval '90 days' THEN interval '1 day'
            WHEN max(created_at) - min(created_at) < interval '630 days' THEN interval '7 days'
            ELSE interval '28 days'
        END AS stride,
        greatest(1, ceil(percentile_cont(0.97) WITHIN GROUP (ORDER BY number) / 11)) AS width
    FROM latest
),
cells AS (
    SELECT
        date_bin(stride, created_at, timestamptz '2001-01-01 00:00:00+00') AS bucket,
        first,
        second,
        least(floor(number / width), 11)::integer AS step,
        CASE WHEN duration_seconds > 0 THEN floor(6 * log(greatest(duration_seconds, 0.001)))::integer END AS bin,
        workflow_status IN ('completed', 'failed') AS finished,
        workflow_status IN ('completed', 'failed') AND passed AS good,
        cause,
        duration_seconds,
        created_at,
        stride,
        width
    FROM latest, scale
),
sums AS (
    SELECT
        GROUPING(bucket, first, step, bin, cause) AS about,
        bucket,
        first,
        second,
        step,
        bin,
        cause,
        count(*) AS total,
        count(*) FILTER (WHERE finished) AS finished,
        count(*) FILTER (WHERE good) AS good,
        CASE WHEN GROUPING(bucket, first, step, bin, cause) = 31 THEN percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) END AS p50,
        CASE WHEN GROUPING(bucket, first, step, bin, cause) = 31 THEN percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_seconds) END AS p95,
        min(created_at) AS since,
        extract(epoch FROM max(stride))::bigint AS stride,
        max(width)::double precision AS width
    FROM cells
    GROUP BY GROUPING SETS ((), (bucket), (first, second), (step), (bin), (cause))
)
SELECT about, bucket, first, second, step, bin, cause, total, finished, good, p50, p95, since, stride, width
FROM (SELECT sums.*, row_number() OVER (PARTITION BY about ORDER BY total DESC) AS place FROM sums) AS ranked
WHERE place <= 400
