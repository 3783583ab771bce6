-- sqlite_ids: the first, the latest and the latest input checkpoint of these threads
SELECT w.value AS thread_id,
    (SELECT min(c.checkpoint_id) FROM checkpoints AS c WHERE c.thread_id = w.value AND c.checkpoint_ns = '') AS first,
    (SELECT max(c.checkpoint_id) FROM checkpoints AS c WHERE c.thread_id = w.value AND c.checkpoint_ns = '') AS latest,
    (SELECT c.checkpoint_id FROM checkpoints AS c
     WHERE c.thread_id = w.value AND c.checkpoint_ns = '' AND json_extract(CAST(c.metadata AS TEXT), '$.source') = 'input'
     ORDER BY c.checkpoint_id DESC LIMIT 1) AS input
FROM json_each(:threads) AS w
