"""What comes back: plain containers whose display escapes all that users and models wrote."""

from __future__ import annotations

import copy
import math
import pickle
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from langgraph_session_store import display
from langgraph_session_store.columns import TableColumn
from langgraph_session_store.session import (
    Analytics,
    AnalyticsGroup,
    NumericSummary,
    Session,
    SessionPage,
    SessionVersion,
    changes,
    session_versions,
    success_rate,
)

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&</td></table>\n</pre></details>"
OURS = {"table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "span"}


class Tags(HTMLParser):
    """Checks that tags are ours, closed in order, and carry nothing but a style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.titles: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in OURS, tag
        assert [name for name, _ in attrs] in ([], ["style"])
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open[-1:] == ["th"]:
            self.titles.append(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1), json_values, max_size=4))
@example({EVIL: EVIL})
@example({"thread_id": EVIL, "a": {EVIL: [EVIL]}, "workflow_status": EVIL})
@example({"thread_id": EVIL * 300})
@example({"n": 2**100, "nested": {"n": 2**100}})
def test_every_display_escapes_what_it_shows(values: dict[str, Any]) -> None:
    session = Session(values)
    columns = tuple(TableColumn(name, "text") for name in values)
    line = (NOW, str(values.get("thread_id")), values)
    group = AnalyticsGroup(total=1, key=values, start=NOW)
    analytics = Analytics(
        total=1,
        by_status=dict.fromkeys(values, 1),
        by_topic={None: 1, EVIL: 2},
        numeric={name: NumericSummary(1.0, 0, 2) for name in values},
        groups=[group],
        group_columns=columns,
    )
    (version, *_) = session_versions([line, (NOW, None, {}), line])
    for shown in (session, SessionPage([session] * 2, next_cursor="x"), version, analytics):
        Tags(shown._repr_html_())


def test_a_session_is_a_dict() -> None:
    session = Session(thread_id="t-1", workflow_status="completed", code="print(1)\n" * 1000)
    assert session == {"thread_id": "t-1", "workflow_status": "completed", "code": "print(1)\n" * 1000}
    assert orjson.loads(orjson.dumps(session, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=dict)) == session
    assert repr(session) == "Session(thread_id='t-1', workflow_status='completed', 3 columns)"
    assert repr(Session(code="a")) == "Session(1 column)"
    assert Tags(session._repr_html_()).text.count("print(1)") > 1000


def test_a_long_value_is_shown_in_part_and_says_so() -> None:
    html = Session(code="x" * 50_000)._repr_html_()
    assert len(html) < 25_000
    assert "30,000 more characters" in html


def test_a_page_is_a_list_that_knows_what_follows() -> None:
    columns = (TableColumn("thread_id", "varchar(255)"), TableColumn("topic", "text"))
    sessions = [Session(id=n, thread_id=f"t-{n}", topic=None) for n in range(60)]
    page = SessionPage(sessions, next_cursor="abc", columns=columns)
    assert page == sessions
    for twin in (copy.copy(page), pickle.loads(pickle.dumps(page))):
        assert (twin, twin.next_cursor, twin.columns) == (sessions, "abc", columns)
    assert repr(page) == "SessionPage(60 sessions, more behind next_cursor)"
    assert repr(SessionPage(sessions[:1])) == "SessionPage(1 session)"
    text = Tags(page._repr_html_()).text
    assert "t-49" in text
    assert "t-50" not in text
    assert "the first 50" in text
    assert SessionPage().next_cursor is None
    assert "No sessions match" in SessionPage()._repr_html_()


def test_a_page_shows_the_columns_that_were_asked_for_and_of_whole_rows_those_that_tell():
    def titles(names: str) -> list[str]:
        return Tags(
            SessionPage([Session(dict.fromkeys(names.split(), None) | {"thread_id": "t"})])._repr_html_()
        ).titles

    asked = "thread_id error trace_id metadata"
    assert titles(asked) == asked.split()
    aside = "id updated_at trace_id started_at finished_at checkpoint_id metadata rejected recorded_at"
    assert titles(f"thread_id topic {aside}") == ["thread_id"]
    assert titles(aside.removeprefix("id ")) == [*aside.split()[1:], "thread_id"]


def test_what_stands_in_a_line_stays_in_it_and_numbers_stand_at_the_right():
    numbers = {"code_attempts": 3, "cost": Decimal("1.5"), "big": 1e300, "duration_seconds": 0.25}
    page = SessionPage([Session(thread_id="a-b-c", topic=None, ok=True, user_prompt="sort " * 10, **numbers)])
    cells = re.findall(r'<td style="text-align:(\w+);vertical-align:top;([^"]+)">(.*?)</td>', page._repr_html_())
    assert [side for side, _, _ in cells] == ["left"] * 4 + ["right"] * 4
    assert [room for _, room, _ in cells] == ["white-space:nowrap"] * 3 + ["min-width:16em"] + [
        "white-space:nowrap"
    ] * 4
    assert [text for _, _, text in cells][-4:] == ["3", "1.5", "1e+300", "250ms"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0%"), (1 / 300, "<1%"), (0.5, "50%"), (299 / 300, ">99%"), (0.99, "99%"), (1.0, "100%")],
)
def test_a_percentage_never_says_all_or_none_where_it_is_not(value: float, text: str) -> None:
    assert display.percentage(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0ms"), (0.00302, "3ms"), (0.00005, "0.05ms"), (0.9996, "1000ms"), (3.02, "3.0s"), (150, "2m 30s"), (7260, "2h 01m")],
)  # fmt: skip
def test_a_duration_has_a_unit(value: float, text: str) -> None:
    assert display.seconds(value) == text
    assert text in Session(duration_seconds=float(value))._repr_html_()


@pytest.mark.parametrize("value", [0.1, 12.5, 999.9, 1234.5, 1e14, 1e15, 1e300, -1e300, float("inf"), float("nan")])
def test_a_number_is_short(value: float) -> None:
    assert len(display.as_text(value)) <= 19
    assert math.isclose(float(display.as_text(value).replace(",", "")), value, rel_tol=1e-3) or math.isnan(value)


def test_code_has_the_colors_of_the_notebook_and_its_letters():
    html = Session(code="\n\ndef f():\n    return 'x'  # because\n")._repr_html_()
    assert "font-family:monospace" in html
    assert not re.findall(r"color:#", html)  # which a theme of the other kind would hide
    assert html.count("var(--jp-mirror-editor-keyword-color,") == 2
    assert "\n\ndef f():\n    return 'x'  # because" in Tags(html).text


def test_a_diff_from_nothing_only_adds():
    text = Tags(display.difference(None, "a\nb")).text
    assert text.splitlines() == ["@@ -0,0 +1,2 @@", "+a", "+b"]
    assert Tags(display.difference("a\n-", None)).text.splitlines() == ["@@ -1,2 +0,0 @@", "-a", "--"]


def test_analytics_say_what_their_numbers_are():
    analytics = Analytics(
        total=75_000_000,
        by_topic={"arrays": 12_000, None: 3},
        success_rate=299 / 300,
        duration_p50=0.25,
        duration_p95=90.0,
        numeric={"total": NumericSummary(123_456_789.25, -1e300, 1e300)},
        groups=[AnalyticsGroup(total=3_648, key={"topic": "arrays"}, success_rate=0.8277, duration_p50=1.0)],
        group_columns=(TableColumn("topic", "text"),),
    )
    html = analytics._repr_html_()
    text = Tags(html).text
    for told in ("75,000,000", "arrays: 12,000, -: 3", ">99%", "250ms", "90.0s", "83%", "3,648", "1.0s"):
        assert told in text
    assert "123,456,789 mean, -1e+300 to 1e+300" in text
    assert re.findall(r'text-align:(\w+)">(\w+)</th>', html) == [
        ("left", "topic"), ("right", "total"), ("right", "success_rate"), ("right", "duration_p50"),
    ]  # fmt: skip


def test_a_session_names_all_that_has_no_value():
    names = [f"column_{number}" for number in range(30)]
    text = Tags(Session(thread_id="t", **dict.fromkeys(names))._repr_html_()).text
    assert f"without a value{', '.join(names)}" in text


def test_versions_are_numbered_from_the_oldest_and_come_newest_first() -> None:
    lines = [
        (NOW, "r1", {"code": "a", "tests_passed": None}),
        (NOW + timedelta(seconds=1), "r2", {"code": "a\nb", "tests_passed": False}),
        (NOW + timedelta(seconds=2), None, {"code": "a\nb", "tests_passed": True}),
    ]
    newest, middle, oldest = session_versions(iter(lines))
    assert newest == SessionVersion(3, lines[2][0], None, lines[2][2], {"tests_passed": (False, True)})
    assert middle.changes == {"code": ("a", "a\nb"), "tests_passed": (None, False)}
    assert oldest.changes == {"code": (None, "a")}
    assert "+b" in middle._repr_html_()
    assert session_versions([]) == []


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (1, True, False),
        ([{"a": 0}], [{"a": False}], False),
        (1, 1.0, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ("1", 1, False),
        (None, [], False),
    ],
)
def test_changes_are_what_jsonb_calls_different(old: Any, new: Any, same: bool) -> None:
    assert changes({"x": old}, {"x": new}) == ({} if same else {"x": (old, new)})


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=2), json_values), st.dictionaries(st.text(max_size=2), json_values))
def test_changes_lead_from_old_to_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = changes(old, new)
    applied = {**old, **{name: after for name, (_, after) in found.items()}}
    assert changes(applied, new) == changes(new, new)
    assert all(found[name][0] is old.get(name) for name in found)


def test_a_rate_is_a_fraction_or_none() -> None:
    assert [success_rate(0, 0), success_rate(0, 3), success_rate(3, 4)] == [None, 0.0, 0.75]


def test_analytics_read_by_attribute_and_by_key() -> None:
    group = AnalyticsGroup(total=2, key={"topic": None}, success_rate=0.5)
    analytics = Analytics(
        total=2, by_status={None: 2}, first_seen=NOW, numeric={"size": NumericSummary(1.5, 1, 2)}, groups=[group]
    )
    assert analytics["total"] == analytics.total == 2
    assert set(analytics) == {
        "total", "by_status", "success_rate", "average_code_attempts", "average_problem_attempts", "duration_p50", "duration_p95",
        "first_seen", "last_seen", "numeric", "by_topic", "by_difficulty", "groups", "series",
    }  # fmt: skip
    assert len(analytics) == len(dict(analytics)) == 14
    for name in ("totals", "to_dict", "group_columns", "__class__"):
        assert name not in analytics
        with pytest.raises(KeyError):
            analytics[name]
    plain = analytics.to_dict()
    assert plain["groups"][0]["key"] == {"topic": None}
    assert plain["numeric"] == {"size": {"mean": 1.5, "min": 1, "max": 2}}
    assert orjson.loads(orjson.dumps(plain, option=orjson.OPT_NON_STR_KEYS))["by_status"] == {"null": 2}


def test_the_table_of_analytics_is_the_finest_there_is() -> None:
    topic, total = TableColumn("topic", "varchar(50)"), TableColumn("total", "integer")
    numeric = {"size": NumericSummary(1.5, 1, 2)}
    groups = [AnalyticsGroup(total=n, key={"topic": "a", "total": 7}, numeric=numeric if n else {}) for n in range(2)]
    series = [AnalyticsGroup(total=3, key={"topic": "a", "total": 7}, start=NOW)]

    def table(columns: tuple[TableColumn, ...] = (topic, total), **parts: Any) -> list[dict[str, Any]]:
        rows, columns = Analytics(total=9, numeric=numeric, group_columns=columns, **parts).table()
        assert all(list(row) == [column.name for column in columns] for row in rows)
        assert len({column.name for column in columns}) == len(columns)
        return rows

    (whole,) = table(())
    assert (whole["total"], whole["size_mean"]) == (9, 1.5)
    assert "topic" not in whole
    first, second = table(groups=groups)
    assert (first["topic"], first["group_total"], first["total"], first["size_max"]) == ("a", 7, 0, None)
    assert second["size_max"] == 2
    (bucket,) = table(groups=groups, series=series)
    assert (bucket["start"], bucket["total"]) == (NOW, 3)
    assert "total" in Analytics(total=9, groups=groups, group_columns=(topic, total))._repr_html_()


def test_a_diff_of_large_texts_is_not_computed() -> None:
    old, new = "a\n" * 50_000, "b\n" * 50_000
    assert len(display.difference(old, new)) < 25_000


def test_pages_and_analytics_become_frames_and_pictures() -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    columns = (
        TableColumn("thread_id", "varchar(255)"),
        TableColumn("code_attempts", "integer"),
        TableColumn("metadata", "jsonb"),
    )
    page = SessionPage(
        [Session(thread_id="t-1", code_attempts=None, metadata={"a": 1}), Session(thread_id="t-2", code_attempts=3)],
        columns=columns,
    )
    assert page.to_arrow().column_names == ["thread_id", "code_attempts", "metadata"]
    frame = page.to_pandas()
    assert list(frame["thread_id"]) == ["t-1", "t-2"]
    assert frame["code_attempts"].isna().tolist() == [True, False]
    groups = [
        AnalyticsGroup(total=n, key={"topic": topic}, success_rate=0.5, first_seen=NOW)
        for n, topic in [(1, "a"), (2, None)]
    ]
    analytics = Analytics(total=3, groups=groups, group_columns=(TableColumn("topic", "varchar(50)"),))
    assert analytics.to_pandas()["total"].tolist() == [1, 2]
    assert len(Analytics(total=0).to_pandas()) == 1
    pytest.importorskip("matplotlib").use("agg")
    assert analytics.plot() is not None
