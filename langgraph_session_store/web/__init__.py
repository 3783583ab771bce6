"""See sessions live: a REST API, a stream of changes and a dashboard, on FastAPI. Needs the [web] extra."""

from ..errors import MissingExtraError

try:
    import fastapi as _fastapi  # noqa: F401
    import jinja2 as _jinja2  # noqa: F401
    import prometheus_client as _prometheus_client  # noqa: F401
    import uvicorn as _uvicorn  # noqa: F401
except ImportError:
    raise MissingExtraError("the web API", "web") from None

from .api import session_router
from .app import create_app, serve

__all__ = ["create_app", "serve", "session_router"]
