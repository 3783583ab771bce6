-- mark_abandoned: running rows of which nothing was heard since; a later event of the run still wins
UPDATE {table} SET workflow_status = 'abandoned' WHERE workflow_status = 'running' AND {older}
