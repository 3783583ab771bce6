"""Who plans the problems and writes the solutions: the reference solutions with mistakes, or a chat model."""

from __future__ import annotations

import os
import random
import re
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, Field

from .mutants import break_code
from .problems import Entry, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.language_models import BaseChatModel


class Author(Protocol):
    """What the graph needs someone for. *feedback* is what went wrong the last time, empty at first."""

    name: str

    def plan(self, prompt: str, feedback: str) -> Problem:
        """Turn a user's prompt into a problem with tests."""

    def write(self, problem: Problem, attempt: int, feedback: str) -> str:
        """Write the solution of *attempt*, counted from 1."""


class ReferenceAuthor:
    """Knows the solutions, and breaks the first attempts at some of them; the same ones for the same *seed*."""

    name = "reference solutions, some broken on purpose"

    def __init__(self, entries: Iterable[Entry], seed: int = 0) -> None:
        self._entries = {entry["prompt"]: entry for entry in entries}
        self._seed = seed

    def plan(self, prompt: str, feedback: str) -> Problem:  # noqa: ARG002 - a reference does not learn
        """Return the known problem."""
        entry = self._entries[prompt]
        return Problem(description=prompt, tests=entry["test_list"], imports=entry["test_imports"])

    def write(self, problem: Problem, attempt: int, feedback: str) -> str:  # noqa: ARG002 - a reference does not learn
        """Return the reference solution, with a mistake while the attempt is among the broken ones."""
        entry = self._entries[problem["description"]]
        if attempt > self._broken_attempts(entry):
            return entry["code"]
        return break_code(entry["code"], self._rng(entry, attempt))

    def _broken_attempts(self, entry: Entry) -> int:
        """Draw how many attempts are broken; beyond the graph's patience for some, which are never solved."""
        return self._rng(entry, 0).choices((0, 1, 2, 4, 1000), weights=(58, 18, 10, 6, 8))[0]

    def _rng(self, entry: Entry, attempt: int) -> random.Random:
        return random.Random(f"{self._seed}/{entry['task_id']}/{attempt}")  # noqa: S311 - no secret


class Draft(BaseModel):
    """A coding problem with tests."""

    description: str = Field(description="The task, with the exact name and signature of the function to write.")
    tests: list[str] = Field(description="Three to five Python assert statements that call the function, one a string.")


class ModelAuthor:
    """A chat model plans the problem (structured output) and writes the code."""

    def __init__(self, model: BaseChatModel, name: str) -> None:
        self.name = name
        self._model = model
        self._planner = model.with_structured_output(Draft)

    def plan(self, prompt: str, feedback: str) -> Problem:
        """Ask for a problem; after a failed one, for a clearer one."""
        request = f"Turn this request into a precise Python coding problem with tests.\n\n{prompt}"
        if feedback:
            request += f"\n\nEarlier tests did not fit any solution; state the problem more clearly:\n{feedback}"
        draft = Draft.model_validate(self._planner.invoke(request))
        return Problem(description=draft.description, tests=draft.tests, imports=[])

    def write(self, problem: Problem, attempt: int, feedback: str) -> str:
        """Ask for a solution; after a failed one, with what failed."""
        tests = "\n".join(problem["tests"])
        request = f"Solve this in Python, standard library only. Answer with one code block.\n\n{problem['description']}\n\n{tests}"
        if feedback:
            request += f"\n\nAttempt {attempt - 1} failed:\n{feedback}"
        return extract_code(str(self._model.invoke(request).text))


def extract_code(answer: str) -> str:
    """Return the longest fenced code block of *answer*, or all of it where there is none."""
    blocks: list[str] = re.findall(r"```[\w+-]*[ \t]*\n(.*?)```", answer, re.DOTALL)
    return max(blocks, key=len, default=answer)


_PROVIDERS = (
    ("OPENAI_API_KEY", "langchain_openai", "openai:gpt-5-mini"),
    ("ANTHROPIC_API_KEY", "langchain_anthropic", "anthropic:claude-haiku-4-5"),
    ("GOOGLE_API_KEY", "langchain_google_genai", "google_genai:gemini-2.5-flash"),
)


def choose_author(entries: Iterable[Entry], seed: int = 0) -> Author:
    """Return a chat model where a provider's key and its langchain package are there, else the reference solutions.

    ``PROBLEM_AGENT_MODEL`` names another model, in the form of langchain's `init_chat_model`: ``provider:model``.
    """
    name = os.environ.get("PROBLEM_AGENT_MODEL") or next(
        (model for key, package, model in _PROVIDERS if os.environ.get(key) and find_spec(package)), None
    )
    if name is None:
        return ReferenceAuthor(entries, seed)
    from langchain.chat_models import init_chat_model

    return ModelAuthor(init_chat_model(name), name)
