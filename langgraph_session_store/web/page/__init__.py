"""The dashboard: a shell without data, and fragments of HTML that the shell's script fetches with the token."""

from .overview import Numbers
from .routes import page_router

__all__ = ["Numbers", "page_router"]
