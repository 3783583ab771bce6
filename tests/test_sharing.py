"""Sharing the interpreter: what the writer's thread goes through, a graph's thread may interrupt."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from langgraph_session_store import sharing
from langgraph_session_store.sharing import once

if TYPE_CHECKING:
    import pytest


def test_the_items_come_as_they_are() -> None:
    assert list(sharing.share(iter(range(5)))) == [0, 1, 2, 3, 4]
    assert list(sharing.share([])) == []


def test_long_work_pauses_between_items(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    monkeypatch.setattr(sharing, "TURN", 3600.0)
    assert [*sharing.share("abc")] == ["a", "b", "c"]
    assert pauses == []
    monkeypatch.setattr(sharing, "TURN", -1.0)
    assert [*sharing.share("abc")] == ["a", "b", "c"]
    assert pauses == [sharing.PAUSE] * 3


def test_a_thread_that_is_alone_does_not_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(sharing, "TURN", -1.0)
    assert [*sharing.share("abc")] == ["a", "b", "c"]
    assert pauses == []


def test_a_property_is_computed_once_for_each_instance() -> None:
    class House:
        made = 0

        @once
        def room(self) -> list[int]:
            """Where one is."""
            House.made += 1
            return []

    one, other = House(), House()
    assert one.room is one.room
    assert one.room is not other.room
    assert House.made == 2
    assert House.room.__doc__ == "Where one is."


def test_a_property_may_be_asked_while_it_is_computed_elsewhere() -> None:
    computing, asked = threading.Event(), threading.Event()

    class House:
        @once
        def room(self) -> str:
            if threading.current_thread() is threading.main_thread():
                return "here"
            computing.set()
            assert asked.wait(120)
            return "there"

    house = House()
    other = threading.Thread(target=lambda: house.room)
    other.start()
    assert computing.wait(120)
    assert House().room == "here"  # a lock that all share would wait for ever, as a forked child did
    asked.set()
    other.join(120)
    assert house.room == "there"
