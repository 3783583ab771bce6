-- select_versions: the history of one session, oldest first
SELECT {columns} FROM {versions} WHERE thread_id = %(thread_id)s ORDER BY recorded_at
