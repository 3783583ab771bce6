-- analytics: counts and averages of all sessions that match, by each set of dimensions, in one pass
SELECT {keys}, GROUPING({keys}), {measures}
FROM (SELECT {dimensions}, {table}.* FROM {table} WHERE {condition}) AS s
GROUP BY GROUPING SETS ({sets})
