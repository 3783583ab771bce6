"""An API that writes verified problems: each request is a run of the agent, and each run is a row, without a line that saves.

    uvicorn --app-dir examples problems_api:app
    curl -X POST localhost:8000/problems/verified -H 'content-type: application/json' -d '{"prompt": "..."}'

The sessions are at ``/sessions/``, live.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import mlflow
from fastapi import FastAPI, HTTPException
from problem_agent import ReferenceAuthor, build_graph, choose_author, load_entries
from pydantic import BaseModel, Field

from langgraph_session_store import SessionRecorder, SessionStore
from langgraph_session_store.web import create_app

entries = load_entries(Path(__file__).with_name("problems.jsonl"))
author = choose_author(entries, seed=0)

store = SessionStore()  # DATABASE_URL or POSTGRES_*, else an embedded Postgres
recorder = SessionRecorder(store)
graph = recorder.attach(build_graph(author))

app = FastAPI(title="Verified problems", lifespan=recorder.lifespan)
app.mount("/sessions", create_app(store))


class Wish(BaseModel):
    """What the problem should be about."""

    prompt: Annotated[str, Field(min_length=1, max_length=10_000)]


class Verified(BaseModel):
    """What the agent made of it."""

    thread_id: str
    run_id: str
    tests_passed: bool
    description: str
    code: str


@app.post("/problems/verified")
def write_problem(wish: Wish) -> Verified:
    """Write a problem with a solution that its tests have verified."""
    if isinstance(author, ReferenceAuthor) and wish.prompt not in {entry["prompt"] for entry in entries}:
        raise HTTPException(404, "Without a model the agent knows the prompts of examples/problems.jsonl only.")
    thread_id = f"problem-{uuid4()}"
    with mlflow.start_run(run_name=thread_id) as run:
        end: dict[str, Any] = graph.invoke({"user_prompt": wish.prompt}, {"configurable": {"thread_id": thread_id}})
    return Verified(
        thread_id=thread_id,
        run_id=run.info.run_id,
        tests_passed=end["tests_passed"],
        description=end["problem"]["description"],
        code=end["code"],
    )
