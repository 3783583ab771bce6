-- link_run: correlate a session with the MLflow run that was opened after it
UPDATE {table} SET run_id = %(run_id)s WHERE thread_id = %(thread_id)s
