"""Sharing the interpreter: what the writer's thread goes through, a graph's thread may interrupt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from langgraph_session_store import sharing

if TYPE_CHECKING:
    import pytest


def test_the_items_come_as_they_are() -> None:
    assert list(sharing.share(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(sharing.share([])) == []


def test_long_work_pauses_between_items(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(sharing, "TURN", 3600.0)
    assert [*sharing.share("abc")] == ["a", "b", "c"]
    assert pauses == []
    monkeypatch.setattr(sharing, "TURN", -1.0)
    assert [*sharing.share("abc")] == ["a", "b", "c"]
    assert pauses == [sharing.PAUSE] * 3
