"""What the dashboard draws and says: durations as bars that lead to their sessions, numbers as people read them, closed sets."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from typing_extensions import TypeAliasType
from web_serving import problem_rows, served

from langgraph_session_store import Column, SessionRecord
from langgraph_session_store.store import SessionStore
from langgraph_session_store.web.page.markup import compact, duration, number, percent

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_durations_are_bars_that_lead_to_their_sessions(store: SessionStore) -> None:
    rows = problem_rows(40)
    for place, row in enumerate(rows):
        took = timedelta(seconds=(0.02, 3.0)[place % 2])
        row |= {"started_at": NOON, "finished_at": NOON + took}
    store.save_many(rows)
    with served(store) as client:
        page = client.get("/fragments/charts").text
        bars = dict.fromkeys(re.findall(r"([\d.]+ m?s) to ([\d.]+ m?s): 20 sessions", page))
        assert list(bars) == [("15 ms", "22 ms"), ("2.2 s", "3.2 s")]
        links = set(re.findall(r"duration_seconds__gte=[\d.]+&amp;duration_seconds__lt=[\d.]+", page))
        asked = [f"/api/sessions?{html.unescape(link)}&count=exact" for link in links]
        totals = [client.get(path).json()["total"] for path in asked]
    assert sorted(totals)[-2:] == [20, 20]
    assert sum(totals) == 40


@pytest.mark.parametrize(
    ("say", "value", "words"),
    [
        (duration, None, "–"),  # noqa: RUF001
        (duration, 0.25, "250 ms"),
        (duration, 12.34, "12.3 s"),
        (duration, 61, "1 m 01 s"),
        (duration, 3 * 3600 + 60, "3 h 01 m"),
        (duration, 50 * 3600, "2 d 2 h"),
        (percent, None, "–"),  # noqa: RUF001
        (percent, 0.0, "0%"),
        (percent, 0.001, "<1%"),
        (percent, 0.999, ">99%"),
        (percent, 1.0, "100%"),
        (number, 1234.5, "1,234"),
        (number, 1.23456, "1.23"),
        (number, 12345, "12,345"),
        (number, "as it is", "as it is"),
        (compact, 9_999, "9,999"),
        (compact, 12_300, "12.3k"),
        (compact, 250_000, "250k"),
        (compact, 1_500_000, "1.5M"),
        (compact, 2_000_000_000, "2B"),
    ],
)
def test_numbers_as_people_read_them(say: Callable[[Any], str], value: Any, words: str) -> None:
    assert say(value) == words


class Mood(Enum):
    """How a customer feels."""

    GOOD = "good"
    BAD = "bad"


Level = TypeAliasType("Level", Literal["low", "high"])


class MoodSession(SessionRecord, table="moods"):
    """A record with closed sets, however they are written."""

    mood: Mood | None = None
    level: Level | None = None
    rank: Annotated[Literal[1, 2] | None, Column(index=True)] = None
    note: str | None = None


def test_closed_sets_are_found_however_they_are_written(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, record=MoodSession) as store, served(store) as client:
        fields = {field["name"]: field.get("values") for field in client.get("/api/schema").json()["fields"]}
    assert fields["mood"] == ["good", "bad"]
    assert fields["level"] == ["low", "high"]
    assert fields["rank"] == [1, 2]
    assert fields["note"] is None
