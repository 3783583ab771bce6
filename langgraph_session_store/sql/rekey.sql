-- rekey: the keys of a distributed table, every one of which holds the distribution column
ALTER TABLE {table} DROP CONSTRAINT {primary}, DROP CONSTRAINT {unique}, {keys}
