-- known: when what is there of these threads was recorded, from which checkpoint, and which of their fields are empty
SELECT thread_id, recorded_at, checkpoint_id, ARRAY[{empty}]::boolean[]
FROM {table}
WHERE thread_id = ANY (%(threads)b::text[])
