-- mark: record the last migration, where it goes with the table and comes back from a dump
COMMENT ON TABLE {table} IS {comment}
