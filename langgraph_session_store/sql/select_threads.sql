-- select_threads: some of the threads that match
SELECT thread_id FROM {table} WHERE {condition} LIMIT %(most)s
