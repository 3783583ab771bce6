"""`python -m langgraph_session_store.cli`: the command, where its script is not on the PATH."""

from . import app

app(prog_name="session-store")
