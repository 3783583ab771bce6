-- select_changes: the sessions that changed since, in the order of their changes
SELECT {columns} FROM {table}
WHERE (updated_at, id) > (%(updated_at)s::timestamptz, %(id)s::uuid)
ORDER BY updated_at, id
LIMIT %(limit)s
