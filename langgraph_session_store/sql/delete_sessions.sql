-- delete_sessions: the rows of these threads
DELETE FROM {table} WHERE thread_id = ANY (%(threads)b::text[])
