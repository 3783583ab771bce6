-- clock: the database's time in microseconds since the epoch
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
