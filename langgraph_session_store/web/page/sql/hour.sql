-- hour: how many sessions finished, and how many of them well, since a moment
SELECT count(*) FILTER (WHERE finished), count(*) FILTER (WHERE finished AND passed)
FROM (
    SELECT workflow_status IN ('completed', 'failed') AS finished, {passed} AS passed
    FROM {table}
    WHERE {condition} AND updated_at >= %(since)s AND finished_at >= %(since)s
) AS recent
