-- patience: wait this long for each of the table's locks, unless the connection says otherwise: who comes later waits behind
SELECT set_config('lock_timeout', '10s', true) WHERE current_setting('lock_timeout') = '0'
