-- spreads: whether tables may be distributed, of which Citus answers less
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
