"""Agents that others published, attached with one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from langgraph_session_store import MessagesSession, SessionRecorder, SessionStore

if TYPE_CHECKING:
    from pathlib import Path


class Scripted(GenericFakeChatModel):
    """A chat model that says its lines."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def model(*lines: AIMessage) -> Scripted:
    return Scripted(messages=iter(lines))


def calls(name: str, **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"call-{name}"}])


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def supervisor() -> Any:
    worker = create_agent(model(calls("add", a=1, b=2), AIMessage("It is 3.")), [add], name="math")
    boss = model(calls("transfer_to_math"), AIMessage("The answer is 3."))
    return create_supervisor([worker], model=boss).compile(checkpointer=InMemorySaver())


def swarm() -> Any:
    to_bob = create_handoff_tool(agent_name="bob")
    alice = create_agent(model(calls("transfer_to_bob")), [to_bob], name="alice")
    bob = create_agent(model(AIMessage("The answer is 3.")), [add], name="bob")
    return create_swarm([alice, bob], default_active_agent="alice").compile(checkpointer=InMemorySaver())


def deep() -> Any:
    todos = [{"content": "add", "status": "completed"}]
    lines = (calls("write_todos", todos=todos), calls("add", a=1, b=2), AIMessage("The answer is 3."))
    return create_deep_agent(model=model(*lines), tools=[add])


@pytest.mark.parametrize("agent", [supervisor, swarm, deep])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_one_row_a_run(agent: Any, asynchronous: bool, dsn: str, schema: str, tmp_path: Path) -> None:
    question = {"messages": [("user", "What is 1 + 2?")]}
    config: Any = {"configurable": {"thread_id": "t"}}
    with (
        SessionStore(dsn, schema=schema, record=MessagesSession) as store,
        SessionRecorder(store, spool_dir=tmp_path) as recorder,
    ):
        graph = recorder.attach(agent())
        result = await graph.ainvoke(question, config) if asynchronous else graph.invoke(question, config)
        rows = store.query()
        assert [(row["workflow_status"], row["user_prompt"], row["answer"]) for row in rows] == [
            ("completed", "What is 1 + 2?", "The answer is 3.")
        ]
        assert rows[0]["message_count"] == len(result["messages"])
        assert recorder.stats().accepted == 2
