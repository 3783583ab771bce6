-- 001_touch: updated_at, whoever updates; always later than before, so that who watches it misses no change of a row
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $touch$
BEGIN
    NEW.updated_at := greatest(pg_catalog.clock_timestamp(), OLD.updated_at + interval '1 microsecond');
    RETURN NEW;
END
$touch$
