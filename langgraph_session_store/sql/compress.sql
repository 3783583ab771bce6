-- compress: lz4 for large values, twice as fast as the default to write; where the server has none nothing happens
DO $lz4$
BEGIN
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        ALTER TABLE {table} {columns};
    END IF;
END
$lz4$
