"""What comes back: plain containers whose display escapes all that users and models wrote."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
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
    assert "topic" not in text  # nothing but NULL
    assert SessionPage().next_cursor is None
    assert "0 sessions" in SessionPage()._repr_html_()


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

    def table(**parts: Any) -> list[dict[str, Any]]:
        rows, columns = Analytics(total=9, numeric=numeric, group_columns=(topic, total), **parts).table()
        assert all(list(row) == [column.name for column in columns] for row in rows)
        assert len({column.name for column in columns}) == len(columns)
        return rows

    (whole,) = table()
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
