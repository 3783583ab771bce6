"""The two records that come with the package: a coding problem, and a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from .record import Column, SessionRecord


class ProblemSession(SessionRecord, table="session_states"):
    """One coding problem: written, solved, tested."""

    user_prompt: str | None = None
    topic: Annotated[str | None, Column(sql="varchar(50)", index=True)] = None
    difficulty: Annotated[str | None, Column(sql="varchar(20)", index=True)] = None
    problem_description: Annotated[
        str | None, Column(("problem.description", "problem_description"), versioned=True)
    ] = None
    problem_tests: Annotated[list[Any] | None, Column(("problem.tests", "problem_tests"), versioned=True)] = None
    code: Annotated[str | None, Column(versioned=True)] = None
    tests_passed: Annotated[bool | None, Column(versioned=True)] = None
    code_attempts: Annotated[int | None, Column(sql="integer")] = None
    problem_attempts: Annotated[int | None, Column(sql="integer")] = None

    def workflow_status(self) -> str | None:
        """Return ``failed`` when the tests did not pass."""
        return "failed" if self.tests_passed is False else None


def _messages(state: Any) -> list[Any]:
    """Return the thread's messages; KeyError where the state has none."""
    found = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", state)
    if isinstance(found, str):
        return [("human", found)]
    if not isinstance(found, (list, tuple)):
        raise KeyError("messages")
    return list(found)


def _of(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, Mapping) else getattr(message, name, None)


def _role(message: Any) -> str:
    """Return ``human``, ``ai`` or another role, of LangChain's, OpenAI's and tuple messages alike."""
    if isinstance(message, str):
        return "human"
    role = message[0] if isinstance(message, tuple) and message else _of(message, "role") or _of(message, "type")
    return _ROLES.get(role, role) if isinstance(role, str) else ""


_ROLES: Final = {
    "user": "human",
    "assistant": "ai",
    "HumanMessageChunk": "human",
    "AIMessageChunk": "ai",
}


def _text(message: Any) -> str | None:
    """Return the text of a message's content: a string, or the text blocks of a list."""
    if isinstance(message, str):
        return message
    content = message[-1] if isinstance(message, tuple) else _of(message, "content")
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    blocks = (block if isinstance(block, str) else _of(block, "text") for block in content)
    return "".join(block for block in blocks if isinstance(block, str))


def _user_prompt(state: Any) -> str | None:
    return next((_text(message) for message in _messages(state) if _role(message) == "human"), None)


def _answer(state: Any) -> str | None:
    return next((_text(message) for message in reversed(_messages(state)) if _role(message) == "ai"), None)


def _tool_calls(state: Any) -> int:
    return sum(len(_of(message, "tool_calls") or ()) for message in _messages(state))


def _tokens(state: Any, name: str) -> int | None:
    usages = [usage for message in _messages(state) if (usage := _of(message, "usage_metadata"))]
    counts = [count for usage in usages if isinstance(count := _of(usage, name), int)]
    return sum(counts) if counts else None


def _models(state: Any) -> list[str] | None:
    metadata = [found for message in _messages(state) if (found := _of(message, "response_metadata"))]
    names = (_of(found, "model_name") or _of(found, "model") for found in metadata)
    return list(dict.fromkeys(name for name in names if isinstance(name, str))) or None


class MessagesSession(SessionRecord, table="message_sessions"):
    """One conversation, over the whole thread's ``messages``."""

    user_prompt: Annotated[str | None, Column(_user_prompt)] = None
    answer: Annotated[str | None, Column(_answer)] = None
    message_count: Annotated[int | None, Column(lambda state: len(_messages(state)))] = None
    tool_calls: Annotated[int | None, Column(_tool_calls)] = None
    input_tokens: Annotated[int | None, Column(lambda state: _tokens(state, "input_tokens"))] = None
    output_tokens: Annotated[int | None, Column(lambda state: _tokens(state, "output_tokens"))] = None
    models: Annotated[list[str] | None, Column(_models)] = None
