-- create_trigram: an index for contains and icontains; it needs the extension pg_trgm, and is left out where that cannot be had
DO $trigram$
DECLARE
    home text;
BEGIN
    IF EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        CREATE EXTENSION IF NOT EXISTS pg_trgm;
        SELECT n.nspname INTO home FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE extname = 'pg_trgm';
        EXECUTE format({statement}, home);
    ELSE
        RAISE NOTICE 'pg_trgm is not installed on this server: no trigram index';
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'this role may not create the extension pg_trgm: no trigram index';
END
$trigram$
