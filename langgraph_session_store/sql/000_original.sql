-- 000_original: the original project's table becomes ours; its rows are rewritten, not updated, so that no trigger moves updated_at
DO $original$
DECLARE
    zone text;
BEGIN
    -- Its times are local ones, of the zone that the database gives to who asks for none; this connection may have another.
    SELECT split_part(setting, '=', 2) INTO zone
    FROM pg_db_role_setting, unnest(setconfig) AS setting
    WHERE setrole = 0
        AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
        AND setting ILIKE 'timezone=%%'
    ORDER BY setdatabase DESC
    LIMIT 1;
    IF zone IS NULL THEN
        SELECT reset_val INTO zone FROM pg_settings WHERE name = 'TimeZone' AND source <> 'client';
    END IF;
    IF zone IS NULL AND has_function_privilege('pg_show_all_file_settings()', 'EXECUTE') THEN
        SELECT setting INTO zone FROM pg_show_all_file_settings() WHERE lower(name) = 'timezone' AND applied;
    END IF;
    IF zone IS NULL THEN
        RAISE EXCEPTION 'the TimeZone of the database cannot be told' USING ERRCODE = 'LG001';
    END IF;
    PERFORM set_config('TimeZone', zone, true);

    DROP VIEW IF EXISTS {summary}; -- before the table is locked, as its readers do, who could deadlock else
    {indexes}
    DROP TRIGGER IF EXISTS trigger_update_session_states_updated_at ON {table};
    ALTER TABLE {table} ADD COLUMN recorded_at timestamptz;
    BEGIN
        ALTER TABLE {table}
            DROP CONSTRAINT IF EXISTS valid_topic,
            DROP CONSTRAINT IF EXISTS valid_difficulty,
            DROP CONSTRAINT IF EXISTS valid_workflow_status,
            {freed},
            ALTER id SET DEFAULT gen_random_uuid(),
            ALTER created_at DROP DEFAULT,
            ALTER created_at TYPE timestamptz USING coalesce({created}, {updated}, now()),
            ALTER created_at SET DEFAULT now(),
            ALTER created_at SET NOT NULL,
            ALTER updated_at DROP DEFAULT,
            ALTER updated_at TYPE timestamptz USING coalesce({updated}, {created}, now()),
            ALTER updated_at SET DEFAULT now(),
            ALTER updated_at SET NOT NULL,
            -- Not from the future, where a zone was mistaken or a clock was wrong: runs would be older than their row.
            ALTER recorded_at TYPE timestamptz USING least(coalesce({updated}, {created}), now()),
            ALTER recorded_at SET DEFAULT clock_timestamp(),
            ALTER recorded_at SET NOT NULL{retyped};
    EXCEPTION
        WHEN feature_not_supported OR invalid_object_definition THEN
            RAISE EXCEPTION 'a column whose type changes is used' USING ERRCODE = 'LG002';
    END;

    BEGIN
        DROP FUNCTION IF EXISTS {function}();
    EXCEPTION
        WHEN dependent_objects_still_exist OR insufficient_privilege THEN
            NULL; -- another table's trigger uses it, or it is another role's
    END;
END
$original$
