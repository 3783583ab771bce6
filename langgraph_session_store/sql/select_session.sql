-- select_session: one session
SELECT {columns} FROM {table} WHERE thread_id = %(thread_id)s
