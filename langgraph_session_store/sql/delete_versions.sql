-- delete_versions: the history of these threads
DELETE FROM {versions} WHERE thread_id = ANY (%(threads)b::text[])
