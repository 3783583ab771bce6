-- lock: wait for the other transactions of this kind; ends with the transaction, so that a pooler in between cannot keep it
SELECT pg_advisory_xact_lock(hashtextextended(%(key)s, 0))
