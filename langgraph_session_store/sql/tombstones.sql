-- tombstones: which of these threads were erased, and when
SELECT thread_hash, erased_at FROM {erased} WHERE thread_hash = ANY (%(hashes)b::bytea[])
