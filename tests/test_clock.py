"""Event times: strictly increasing, immune to the wall clock, and on the database's clock once it was heard."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_store.clock import Clock, monotonic, to_datetime, to_iso, to_microseconds

if TYPE_CHECKING:
    import pytest


def test_times_increase_strictly_across_threads() -> None:
    clock = Clock()
    seen: list[int] = []

    def work() -> None:
        seen.extend(clock.tick()[0] for _ in range(2_000))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 8_000


def test_a_wall_clock_set_back_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.tick()[0]
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600 * 10**9)
    assert before < clock.tick()[0] < before + 60 * 10**6


def test_the_first_contact_moves_the_origin_even_backwards() -> None:
    clock = Clock()
    wall, mono, anchored = clock.tick()
    assert not anchored
    clock.anchor(wall - 5 * 10**6, mono)
    after, _, anchored = clock.tick()
    assert anchored
    assert after < wall
    assert clock.at(mono) == wall - 5 * 10**6


def test_a_later_contact_never_goes_back() -> None:
    clock = Clock()
    clock.anchor(10**15, monotonic())
    before = clock.tick()[0]
    clock.anchor(10**15 - 10**9, monotonic())
    assert clock.tick()[0] == before + 1


def test_a_forked_child_ticks_though_a_thread_held_the_lock() -> None:
    clock = Clock()
    with clock._lock:
        child = os.fork()
        if child == 0:
            clock.tick()
            os._exit(0)
    deadline = time.monotonic() + 120
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if done == (0, 0):
        os.kill(child, 9)
    assert done == (child, 0)


def test_round_trip_of_times() -> None:
    assert to_microseconds(to_datetime(1_234_567_890_123_456)) == 1_234_567_890_123_456
    assert to_iso(0) == "1970-01-01T00:00:00+00:00"


@given(
    st.integers(to_microseconds(datetime.min.replace(tzinfo=UTC)), to_microseconds(datetime.max.replace(tzinfo=UTC)))
)
def test_text_is_exact_to_the_microsecond(moment: int) -> None:
    assert to_iso(moment) == to_datetime(moment).isoformat()
