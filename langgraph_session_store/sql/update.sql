-- update: set some fields of one session and touch nothing else
UPDATE {table} SET {updates} WHERE thread_id = %(thread_id)s RETURNING run_id
