"""The public API as its users' type checkers see it; never run, only checked."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, TypedDict, assert_type
from uuid import UUID

from langgraph.func import entrypoint
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph

import langgraph_session_store as lgss


class State(TypedDict):
    """A state."""

    topic: str


class Ticket(lgss.SessionRecord, table="tickets"):
    """A record."""

    question: Annotated[str | None, lgss.Column("messages.0.content", index=True)] = None
    resolved: bool = False


@entrypoint()
def workflow(inputs: str) -> str:
    """Return what came in."""
    return inputs


graph = StateGraph(State).compile()
store = lgss.SessionStore(record=Ticket, schema="s")
recorder = lgss.SessionRecorder(store, durability="fsync", user_id="ann", run_id=lambda: None)

assert_type(recorder.attach(graph), CompiledStateGraph[State, None, State, State])
assert_type(lgss.attach(graph, store), CompiledStateGraph[State, None, State, State])
recorder.attach(workflow).invoke("x")
assert_type(recorder.flush(), lgss.FlushReport)
assert_type(recorder.stats(), lgss.WriterStats)
assert_type(recorder.close(), bool)

assert_type(store.save("t", {}), UUID)
assert_type(store.get("t"), lgss.Session | None)
assert_type(store.query(topic="arrays", code_attempts__gte=3, limit=5), lgss.SessionPage)
assert_type(store.query()[0], lgss.Session)
assert_type(store.iter(topic="arrays"), Iterator[lgss.Session])
assert_type(store.count(), int)
assert_type(store.analytics(group_by="topic"), lgss.Analytics)
assert_type(store.versions("t"), list[lgss.SessionVersion])
assert_type(store.update("t", resolved=True), bool)
assert_type(store.delete("t"), bool)
assert_type(store.erase(topic="x"), int)
assert_type(store.link_run("t", "r"), bool)


async def asynchronous(store: lgss.AsyncSessionStore) -> None:
    """Check the twin."""
    assert_type(await store.save("t", {}), UUID)
    assert_type(await store.get("t"), lgss.Session | None)
    assert_type(await store.query(), lgss.SessionPage)
    assert_type(store.iter(), AsyncIterator[lgss.Session])
    assert_type(await store.analytics(), lgss.Analytics)
    assert_type(await store.delete("t"), bool)


assert_type(lgss.save_session_state("t", {}), str)
assert_type(lgss.delete_session_state("t"), bool)
