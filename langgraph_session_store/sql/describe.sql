-- describe: the columns of the table, and which of them the history has
SELECT a.attname, format_type(a.atttypid, a.atttypmod), v.attname IS NOT NULL
FROM pg_attribute AS a
LEFT JOIN pg_attribute AS v ON v.attrelid = to_regclass(%(versions)s) AND v.attname = a.attname AND NOT v.attisdropped
WHERE a.attrelid = to_regclass(%(table)s) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
