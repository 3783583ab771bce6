-- add_columns: columns of fields that were declared since
ALTER TABLE {table} {columns}
