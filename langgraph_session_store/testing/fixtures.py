"""Fixtures for pytest: ``pytest_plugins = ["langgraph_session_store.testing.fixtures"]`` in the uppermost conftest.py.

They ask for a fixture ``dsn`` of yours, which returns the connection string of a Postgres for tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .schemas import fresh_schema

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    """Make a schema of the test's own."""
    with fresh_schema(dsn) as name:
        yield name


@pytest.fixture(scope="module")
def module_schema(dsn: str) -> Iterator[str]:
    """Make a schema that the tests of one module share, in one process."""
    with fresh_schema(dsn) as name:
        yield name
