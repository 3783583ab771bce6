-- lock_summary: the view before its table, in the order of its readers, who could deadlock else
LOCK TABLE {summary} IN ACCESS EXCLUSIVE MODE
