-- select_sessions: the sessions that match, in order
SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order} LIMIT %(limit)s
