-- surroundings: whether tables may be distributed, of which Citus answers less, and which process this is
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus'), pg_backend_pid()
