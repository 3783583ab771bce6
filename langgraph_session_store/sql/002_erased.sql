-- 002_erased: SHA-256 of the threads that were removed, and when, so that older events do not bring them back
CREATE TABLE IF NOT EXISTS {erased} (
    thread_hash bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL
)
