"""The shortest use: two lines, and every run of a graph is a row."""

from typing import TypedDict

from langgraph.graph import END, START, StateGraph

from langgraph_session_store import SessionStore, attach


class State(TypedDict, total=False):
    """What the graph knows; the names that the store knows too become columns."""

    user_prompt: str
    topic: str
    code: str
    tests_passed: bool


def solve(state: State) -> State:
    """Stand in for an agent."""
    code = f"# {state['user_prompt']}\ndef add(a, b):\n    return a + b\n"
    return {"topic": "numbers", "code": code, "tests_passed": True}


builder = StateGraph(State)
builder.add_node("solve", solve)
builder.add_edge(START, "solve")
builder.add_edge("solve", END)
graph = builder.compile()

store = SessionStore()  # DATABASE_URL or POSTGRES_*, else an embedded Postgres
graph = attach(graph, store)

graph.invoke({"user_prompt": "Add two numbers."}, {"configurable": {"thread_id": "quickstart"}})

for column, value in (store.get("quickstart") or {}).items():
    print(f"{column:20} {value}")
