-- 001_touch: updated_at, whoever updates
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $touch$
BEGIN
    NEW.updated_at := greatest(pg_catalog.clock_timestamp(), OLD.updated_at);
    RETURN NEW;
END
$touch$
