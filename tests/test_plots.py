"""The pictures: what they draw of which sessions, and that nothing of matplotlib's global state is touched."""

from __future__ import annotations

import io
import pickle
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from math import exp

import pandas as pd
import pytest

from langgraph_session_store.columns import TableColumn
from langgraph_session_store.errors import ConfigError, MissingExtraError
from langgraph_session_store.frames import plots
from langgraph_session_store.session import Analytics, AnalyticsGroup, Session, SessionPage

COLUMNS = (
    TableColumn("thread_id", "text"),
    TableColumn("created_at", "timestamptz"),
    TableColumn("workflow_status", "text"),
    TableColumn("tests_passed", "boolean"),
    TableColumn("topic", "text"),
    TableColumn("difficulty", "text"),
    TableColumn("code_attempts", "integer"),
    TableColumn("duration_seconds", "double precision"),
)
START = datetime(2026, 10, 5, tzinfo=UTC)  # a Monday


def sessions(count=200, days=30.0) -> SessionPage:
    chance = random.Random(1)
    rows = [
        Session(
            thread_id=f"t{number}",
            created_at=START + timedelta(days=days * number / count),
            workflow_status=chance.choice(["completed", "failed", "running"]),
            tests_passed=chance.choice([True, False, None]),
            topic=chance.choice(["arrays", "strings", "$a$ very long topic that goes on and on and on", None]),
            difficulty=chance.choice(["hard", "easy", "medium", None]),
            code_attempts=chance.choice([1, 2, 3, 9, None]),
            duration_seconds=chance.choice([None, exp(chance.gauss(2, 1))]),
        )
        for number in range(count)
    ]
    return SessionPage(rows, columns=COLUMNS)


EVERY = [plots.success_over_time, plots.attempts_by_difficulty, plots.topic_by_difficulty, plots.durations]


def words(figure) -> list[str]:
    """All that is written on a figure."""
    from matplotlib.text import Text

    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def heights(axes) -> list[float]:
    return [patch.get_height() for patch in axes.patches]


def widths(axes) -> list[float]:
    return [patch.get_width() for patch in axes.patches]


@pytest.mark.parametrize("draw", EVERY)
def test_every_picture_has_a_title_and_survives_strange_rows(draw):
    page = sessions()
    assert draw(page)._repr_png_().startswith(b"\x89PNG")
    assert words(draw(page.to_pandas())) == words(draw(list(page))) == words(draw(page))
    for few in (1, 2):
        assert draw(SessionPage(page[:few], columns=COLUMNS))._repr_png_()
    blank = [Session(dict.fromkeys(row)) for row in page[:3]]
    assert draw(SessionPage(blank, columns=COLUMNS))._repr_png_()


@pytest.mark.parametrize("draw", EVERY)
def test_without_rows_the_figure_says_so(draw):
    for none in (SessionPage(columns=COLUMNS), SessionPage(), pd.DataFrame(), []):
        assert any("nothing to draw" in word for word in words(draw(none)))
    assert any("nothing to draw" in word for word in words(plots.plot(Analytics(total=0))))


@pytest.mark.parametrize("draw", EVERY)
def test_a_column_that_was_not_read_is_named(draw):
    with pytest.raises(ConfigError, match=r"needs the column \w+; there are thread_id"):
        draw(pd.DataFrame({"thread_id": ["a"]}))


def test_success_is_tests_passed_among_the_completed_and_failed():
    def row(hour, status, passed):
        return {"created_at": START + timedelta(hours=hour), "workflow_status": status, "tests_passed": passed}

    rows = [row(1, "completed", True), row(1.5, "failed", False), row(1.7, "running", True), row(4, "completed", None)]
    top, bottom = plots.success_over_time(rows).axes
    assert top.lines[0].get_ydata().tolist() == pytest.approx([0.5, float("nan"), float("nan"), 0.0], nan_ok=True)
    assert heights(bottom) == [3, 0, 0, 1]
    top, bottom = plots.success_over_time(rows, bucket="day").axes
    assert (top.lines[0].get_ydata().tolist(), heights(bottom)) == (pytest.approx([1 / 3]), [4])
    with pytest.raises(ConfigError, match="hour, day or week"):
        plots.success_over_time(rows, bucket="year")


def test_buckets_fit_the_span_and_weeks_begin_on_monday():
    for days, bucket in ((1.5, "hour"), (30, "day"), (300, "week")):
        assert any(f"per {bucket} (UTC)" in word for word in words(plots.success_over_time(sessions(days=days))))
    late = {"created_at": START + timedelta(days=13), "workflow_status": "completed", "tests_passed": True}  # a Sunday
    figure = plots.success_over_time([{**late, "created_at": START}, late], bucket="week")
    assert [pd.Timestamp(x) for x in figure.axes[0].lines[0].get_xdata()] == [
        pd.Timestamp(START),
        pd.Timestamp(START + timedelta(days=7)),
    ]


def test_attempts_are_shares_of_each_difficulty_in_its_order():
    rows = [{"difficulty": "hard", "code_attempts": n} for n in (1, 1, 2, 8)] + [
        {"difficulty": "easy", "code_attempts": 1}
    ]
    figure = plots.attempts_by_difficulty([*rows, {"difficulty": None, "code_attempts": None}])
    assert widths(figure.axes[0]) == [1.0, 0.0, 0.0, 0.5, 0.25, 0.25]
    told = words(figure)
    assert [word for word in told if word in ("easy", "hard")] == ["easy", "hard"]
    assert {"mean 3.0   n = 4", "mean 1.0   n = 1", "6+"} <= set(told)


def test_the_heat_map_tells_rate_and_count_of_each_cell():
    def row(topic, difficulty, passed):
        return {"topic": topic, "difficulty": difficulty, "workflow_status": "completed", "tests_passed": passed}

    rows = [row("a", "easy", True)] * 3 + [row("a", "easy", False), row("b", "hard", False), row(None, "easy", True)]
    figure = plots.topic_by_difficulty([*rows, {**row("c", "easy", True), "workflow_status": "running"}])
    told = words(figure)
    assert [word for word in told if "(" in word and "%" in word] == ["75% (4)", "0% (1)", "100% (1)"]
    assert told.count("-") == 3
    assert "(none)" in told
    assert "c" not in told
    many = plots.topic_by_difficulty([row(f"topic {n}", "easy", True) for n in range(30)])
    assert any("10 rarer topics are left out" in word for word in words(many))


def test_durations_have_a_unit_and_their_median():
    for scale, unit in ((0.001, "milliseconds"), (1, "seconds"), (10, "minutes"), (1_000, "hours")):
        figure = plots.durations(pd.DataFrame({"duration_seconds": [scale * n for n in range(1, 102)]}))
        told = words(figure)
        assert any(word.startswith("median:") and word.endswith(unit) for word in told), told
        assert sum(heights(figure.axes[0])) == 101
    assert plots.durations([{"duration_seconds": 0.0}] * 3)._repr_png_()


def group(total, rate=None, start=None, **key):
    return AnalyticsGroup(total=total, success_rate=rate, start=start, key=key)


def test_analytics_are_drawn_as_what_they_hold():
    whole = Analytics(total=9, by_status={"completed": 6, None: 3})
    assert widths(plots.plot(whole).axes[0]) == [6, 3]

    columns = (TableColumn("topic", "text"),)
    groups = [group(2, 0.5, topic="a"), group(7, None, topic=None)]
    counts, rates = plots.plot(Analytics(total=9, groups=groups, group_columns=columns)).axes
    assert (widths(counts), widths(rates)) == ([7, 2], [0, 0.5])
    assert [label.get_text() for label in counts.get_yticklabels()] == ["(none)", "a"]
    (alone,) = plots.plot(Analytics(total=9, groups=[group(9, topic="a")], group_columns=columns)).axes
    assert widths(alone) == [9]

    days = [START + timedelta(days=n) for n in range(3)]
    series = [group(n + 1, rate, day) for n, (rate, day) in enumerate(zip((0.5, None, 1.0), days, strict=True))]
    top, bottom = plots.plot(Analytics(total=6, series=series)).axes
    assert top.lines[0].get_ydata().tolist() == pytest.approx([0.5, float("nan"), 1.0], nan_ok=True)
    assert heights(bottom) == [1, 2, 3]

    mixed = [group(n, 0.1, day, topic=f"topic {n}") for n in range(1, 9) for day in days]
    figure = plots.plot(Analytics(total=99, series=mixed, group_columns=columns))
    assert len(figure.axes[0].lines) == 6
    assert any("the 6 largest of 8 groups" in word for word in words(figure))
    (counted,) = plots.plot(Analytics(total=6, series=[group(4, None, days[0])])).axes
    assert counted.lines[0].get_ydata().tolist() == [4]


def lines(analytics) -> dict[str, list[float]]:
    return {line.get_label(): line.get_ydata().tolist() for line in plots.plot(analytics).axes[0].lines}


def test_groups_of_a_series_are_told_apart_by_value_not_by_label():
    long = "A very long topic that goes on and on, "
    topics = ["(none)", None, "_private", f"{long}one", f"{long}two", ""]
    days = [START + timedelta(days=n) for n in range(2)]
    series = [group(10 - n, 0.5, day, topic=topic) for n, topic in enumerate(topics) for day in days]
    analytics = Analytics(total=99, series=series, group_columns=(TableColumn("topic", "text"),), bucket="day")
    named = ['"(none)"', "(none)", " _private", "A very l…one", "A very l…two", '""']
    assert list(lines(analytics)) == named
    (legend,) = plots.plot(analytics).legends
    assert [text.get_text() for text in legend.get_texts()] == named
    assert [
        text.get_text()
        for text in plots.plot(Analytics(total=9, groups=series[::2], group_columns=(TableColumn("topic", "text"),)))
        .axes[0]
        .get_yticklabels()
    ] == named
    asked = [f"Write a function that finds the {word} of many numbers" for word in ("sum", "median")]
    apart = [f"{'x' * 30}{'y' * n}{end}" for n, end in ((0, "a"), (40, "b"), (40, "c"))]
    same = [group(9 - n, 0.5, START, topic=topic) for n, topic in enumerate([*asked, *apart])]
    assert list(lines(Analytics(total=6, series=same, bucket="day"))) == [
        "Write a …sum of many numbers",
        "Write a …median of many num…",
        "xxxxxxxx…a",
        f"xxxxxxxx…{'y' * 18}…",
        f"xxxxxxxx…{'y' * 18}… (2)",
    ]
    plain = [group(2, 0.5, START, topic={"a": [n]}) for n in range(2)]  # jsonb
    assert len(lines(Analytics(total=4, series=plain, bucket="day"))) == 2


@pytest.mark.parametrize("bucket", ["hour", "day", "week"])
def test_a_line_has_a_gap_or_is_0_where_no_session_is(bucket):
    step = timedelta(**{f"{bucket}s": 1})
    starts = [START + step * number for number in (0, 1, 5, 6)]
    rated = [group(2, 0.5, start) for start in starts]
    nan = float("nan")
    (rates,) = lines(Analytics(total=8, series=rated, bucket=bucket)).values()
    assert rates == pytest.approx([0.5, 0.5, nan, nan, 0.5, 0.5], nan_ok=True)
    counted = [group(2, None, start) for start in starts]
    assert list(lines(Analytics(total=8, series=counted, bucket=bucket)).values()) == [[2, 2, 0, 0, 2, 2]]
    far = [group(2, None, START), group(2, None, START + step * 1000)]
    assert list(lines(Analytics(total=4, series=far, bucket=bucket)).values()) == [[2, 0, 0, 2]]
    aside = [group(2, None, start, topic="a") for start in starts] + [group(1, None, starts[1], topic="b")]
    assert lines(Analytics(total=9, series=aside, bucket=bucket))["b"] == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("bucket", "told"), [("hour", "05 Oct 00:00"), ("day", "05 Oct"), ("week", "05 Oct")])
def test_a_day_has_no_hour(bucket, told):
    figure = plots.plot(Analytics(total=2, series=[group(2, 0.5, START)], bucket=bucket))
    assert figure._repr_png_()  # which is what writes the times
    assert told in words(figure)


def test_a_share_is_not_rounded_to_all_or_none():
    rows = [
        {"topic": "a", "difficulty": "easy", "workflow_status": "completed", "tests_passed": n > 0} for n in range(300)
    ]
    assert ">99% (300)" in words(plots.topic_by_difficulty(rows))
    groups = [group(300, 299 / 300, topic="a"), group(300, 1 / 300, topic="b")]
    assert {">99%", "<1%"} <= set(words(plots.plot(Analytics(total=600, groups=groups))))


def test_times_of_a_csv_have_or_have_no_fraction():
    text = "created_at,workflow_status,tests_passed\n2026-10-05T09:00:00Z,completed,true\n2026-10-05T09:30:00.285960Z,failed,false\n"
    top, _ = plots.success_over_time(pd.read_csv(io.StringIO(text))).axes
    assert top.lines[0].get_ydata().tolist() == [0.5]


def test_a_figure_is_pickled_and_drawn_again():
    figure = pickle.loads(pickle.dumps(plots.durations(sessions())))
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_no_pyplot_no_global_state():
    code = (
        "import sys, matplotlib; before = dict(matplotlib.rcParams)\n"
        "from langgraph_session_store.frames import plots\n"
        "plots.durations([{'duration_seconds': 1.0}])._repr_png_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert dict(matplotlib.rcParams) == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"MPLBACKEND": "TkAgg", "PATH": "", "HOME": "/tmp"})


@pytest.mark.parametrize("missing", ["matplotlib", "pandas"])
def test_a_missing_library_says_how_to_get_it(monkeypatch, missing):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing] or [missing]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"langgraph-session-store\[frames\]"):
        plots.durations([{"duration_seconds": 1.0}])
