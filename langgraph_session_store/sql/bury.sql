-- bury: remember that these threads were erased
INSERT INTO {erased} AS e (thread_hash, erased_at)
SELECT d.thread_hash, greatest(clock_timestamp(), %(now)s::timestamptz) FROM unnest(%(hashes)b::bytea[]) AS d (thread_hash)
ON CONFLICT (thread_hash) DO UPDATE SET erased_at = greatest(e.erased_at, excluded.erased_at)
RETURNING (extract(epoch FROM e.erased_at) * 1000000)::bigint
