"""The six functions that the original project had: save, get, query by criteria, analytics, delete, and a connection.

They work on the Postgres that ``POSTGRES_HOST``, ``POSTGRES_DB``, ``POSTGRES_USER``, ``POSTGRES_PASSWORD`` and ``POSTGRES_PORT`` name
(``DATABASE_URL`` wins), and on an embedded one where none of them is set.
"""

import uuid

from langgraph_session_store import (
    delete_session_state,
    get_db_connection,
    get_session_analytics,
    get_session_state,
    get_session_states_by_criteria,
    save_session_state,
)

thread_id = f"original-example-{uuid.uuid4()}"

print("1. Save the state that an agent begins with, then the one that it ends with")
state = {
    "user_prompt": "Create a medium difficulty array problem",
    "topic": "arrays",
    "difficulty": "medium",
    "problem_attempts": 1,
    "code_attempts": 0,
}
row_id = save_session_state(thread_id, state, run_id="mlflow-run-1", workflow_status="running")
state |= {
    "problem": {
        "description": "Return the two numbers of a list that add up to a target.",
        "tests": ["assert two_sum([2, 7, 11], 9) == (2, 7)", "assert two_sum([1, 2], 7) is None"],
    },
    "code": "def two_sum(numbers, target):\n    ...",
    "tests_passed": True,
    "code_attempts": 2,
}
same_id = save_session_state(thread_id, state, run_id="mlflow-run-1", workflow_status="completed")
print(f"   one row, saved twice: {row_id == same_id}")

print("2. Get it by its thread")
session = get_session_state(thread_id) or {}
for column in ("topic", "difficulty", "workflow_status", "tests_passed", "code_attempts", "problem_tests"):
    print(f"   {column}: {session[column]}")

print("3. Query by criteria")
found = get_session_states_by_criteria(topic="arrays", difficulty="medium", workflow_status="completed", limit=10)
print(
    f"   {len(found)} completed medium array problems, this one among them: {thread_id in {row['thread_id'] for row in found}}"
)

print("4. Analytics")
analytics = get_session_analytics()
for name in ("total", "success_rate", "average_code_attempts", "by_topic", "by_difficulty"):
    print(f"   {name}: {analytics[name]}")

print("5. Plain SQL")
with get_db_connection() as connection:
    row = connection.execute("SELECT * FROM session_states_summary WHERE thread_id = %s", [thread_id]).fetchone() or {}
print(f"   code: {row['code_status']}, test cases: {row['test_cases_count']}")

print("6. Delete")
print(f"   deleted: {delete_session_state(thread_id)}, and again: {delete_session_state(thread_id)}")
