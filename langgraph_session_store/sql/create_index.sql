-- create_index: one index
CREATE INDEX IF NOT EXISTS {index} ON {table} {columns}
