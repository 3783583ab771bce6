-- 001_table: one row per thread
CREATE TABLE IF NOT EXISTS {table} (
    {columns},
    {keys}
)
