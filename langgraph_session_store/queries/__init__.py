"""Every statement, as a value: pure functions that return a `Query` or the steps of a transaction; no I/O.

From the bottom: `upsert`, `history` and `ddl` (single statements, and what decides them), `writes` and `schema` (transactions of several),
`reads` and `analytics` (what comes back).
"""
