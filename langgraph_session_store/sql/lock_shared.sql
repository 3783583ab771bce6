-- lock_shared: keep out who erases until this transaction ends; writers do not wait for each other
SELECT pg_advisory_xact_lock_shared(hashtextextended(%(key)s, 0))
