-- sqlite_ids: the first, the latest and the latest input checkpoint of a thread; metadata that holds NaN is no JSON to SQLite
SELECT
    (SELECT min(checkpoint_id) FROM checkpoints WHERE thread_id = :thread AND checkpoint_ns = '') AS first,
    (SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread AND checkpoint_ns = '') AS latest,
    (SELECT checkpoint_id FROM checkpoints
     WHERE thread_id = :thread AND checkpoint_ns = ''
         AND CASE WHEN json_valid(CAST(metadata AS TEXT)) THEN json_extract(CAST(metadata AS TEXT), '$.source') END = 'input'
     ORDER BY checkpoint_id DESC LIMIT 1) AS input
