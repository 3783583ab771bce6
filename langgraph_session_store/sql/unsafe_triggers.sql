-- unsafe_triggers: Citus allows triggers on distributed tables only on request; elsewhere this is a harmless placeholder
SELECT set_config('citus.enable_unsafe_triggers', 'on', true)
