-- distribute: spread table and history over the workers by thread; where there is no Citus nothing happens
DO $citus$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = {table_text}::regclass) THEN
            PERFORM create_distributed_table({table_text}, 'thread_id');
        END IF;
        IF NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = {versions_text}::regclass) THEN
            PERFORM create_distributed_table({versions_text}, 'thread_id', colocate_with => {table_text});
        END IF;
    END IF;
END
$citus$
