-- 002_versions: one line each time the content of a versioned field changes; content__digests tells changes without reading the content
CREATE TABLE IF NOT EXISTS {versions} (
    thread_id varchar(255) NOT NULL,
    recorded_at timestamptz NOT NULL,
    run_id varchar(255),
    content__digests jsonb NOT NULL,
    {columns}PRIMARY KEY (thread_id, recorded_at)
)
