-- server: who answers, in which release, whether it takes writes, and what its clock says
SELECT
    pg_backend_pid(),
    current_setting('server_version'),
    current_setting('server_version_num')::int / 10000,
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean,
    extract(epoch FROM clock_timestamp())::double precision
