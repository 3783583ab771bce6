"""The command's logic: every verb, its three forms of output, and its exit codes, in this process against a real Postgres."""

from __future__ import annotations

import csv
import enum
import io
import json
import re
import sys
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import langgraph_session_store
from langgraph_session_store.cli import app
from langgraph_session_store.cli.helping import SECTIONS
from langgraph_session_store.cli.options import Source, read_moment
from langgraph_session_store.cli.output import Column, age, layout, plain, printable, shown
from langgraph_session_store.record import SessionRecord
from langgraph_session_store.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Run = Any
CODE = "def f():\n\treturn 1\n"
VERBS = [verb for verbs in SECTIONS.values() for verb in verbs]


class Priority(enum.Enum):
    LOW = "low"
    HIGH = "high"


class TicketSession(SessionRecord, table="ticket_sessions"):
    """What --record imports."""

    question: str | None = None
    resolved: bool = False
    kind: Literal["refund", "repair"] | None = None
    priority: Annotated[Priority | None, "said by the customer"] = None


@pytest.fixture
def run(dsn: str, schema: str, tmp_path: Path) -> Callable[..., Result]:
    """Call the command in the test's schema, with a spool of the test's own."""

    def call(verb: str, *words: str, schema: str = schema, **options: Any) -> Result:
        env = {"DATABASE_URL": dsn, "XDG_STATE_HOME": str(tmp_path), "FORCE_COLOR": None}
        return CliRunner(env=env).invoke(app, [verb, *words, "--schema", schema], **options)

    return call


@pytest.fixture
def rows(store: SessionStore) -> Iterator[SessionStore]:
    """Five sessions, of which t-3 has two versions."""
    for number, (topic, status, passed, attempts) in enumerate(
        [
            ("arrays", "completed", True, 1),
            ("graphs", "failed", False, 4),
            ("arrays", "completed", True, 3),
            (None, "running", None, None),
            ("strings", "completed", True, 2),
        ],
        start=1,
    ):
        state = {"user_prompt": f"prompt {number}", "topic": topic, "tests_passed": passed, "code_attempts": attempts}
        store.save(f"t-{number}", state, workflow_status=status, user_id=f"u-{number % 2}")
    store.save("t-3", {"code": "old"})
    store.save("t-3", {"code": CODE, "problem_tests": ["assert f()", "assert not g()"]})
    return store


def lines(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.stderr
    return [line.split("\t") for line in result.stdout.splitlines()]


# --- looking ---


def test_list_in_a_pipe_is_a_line_of_fields_for_each_session(run: Run, rows: SessionStore) -> None:
    assert [line[0] for line in lines(run("list"))] == ["t-5", "t-4", "t-3", "t-2", "t-1"]
    assert lines(run("list", "-f", "thread_id,tests_passed,topic", "-o", "thread_id", "-n", "4")) == [
        ["t-1", "true", "arrays"],
        ["t-2", "false", "graphs"],
        ["t-3", "true", "arrays"],
        ["t-4", "", ""],
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["topic=arrays"], {"t-1", "t-3"}),
        (["topic=arrays", "code_attempts__gte=3"], {"t-3"}),
        (["topic__in=graphs,strings"], {"t-2", "t-5"}),
        (["topic__isnull=true"], {"t-4"}),
        (["user_prompt__contains=pt 2"], {"t-2"}),
        (['any_of=[{"topic": "graphs"}, {"workflow_status": "running"}]'], {"t-2", "t-4"}),
        (["topic=nowhere"], set()),
    ],
)
def test_filters_are_words(run: Run, rows: SessionStore, words: list[str], expected: set[str]) -> None:
    assert {line[0] for line in lines(run("list", *words, "-f", "thread_id"))} == expected
    assert json.loads(run("stats", *words, "--json").stdout)["total"] == len(expected)


def test_list_as_json_is_what_the_rest_interface_answers_and_pages_by_cursor(run: Run, rows: SessionStore) -> None:
    seen, cursor = [], None
    while True:
        more = ["--cursor", cursor] if cursor else []
        page = json.loads(run("list", "--json", "-n", "2", *more).stdout)
        assert page["count"] == len(page["sessions"])
        seen += [session["thread_id"] for session in page["sessions"]]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == ["t-5", "t-4", "t-3", "t-2", "t-1"]
    assert set(page["sessions"][0]) == {column.name for column in rows.table.columns}


def test_list_says_on_stderr_that_there_are_more(run: Run, rows: SessionStore) -> None:
    result = run("list", "-n", "2")
    assert len(lines(result)) == 2
    assert "there are more" in result.stderr
    assert run("list", "-n", "5").stderr == ""


def test_a_value_of_a_pipe_is_one_line_without_tabs_and_terminal_orders(run: Run, store: SessionStore) -> None:
    store.save("evil\x1b[31m", {"user_prompt": "a\tb\nc\x1b]0;title\x07d"})
    ((thread, prompt),) = lines(run("list", "-f", "thread_id,user_prompt"))
    assert prompt == r"a\tb\nc\x1b]0;title\x07d"
    assert "\x1b" not in thread


def test_show_tells_columns_or_one_raw_value(run: Run, rows: SessionStore) -> None:
    told = dict(lines(run("show", "t-3")))
    assert (told["topic"], told["code_attempts"], told["tests_passed"]) == ("arrays", "3", "true")
    assert run("show", "t-3", "-f", "code").stdout == CODE + "\n"
    assert json.loads(run("show", "t-3", "-f", "problem_tests").stdout) == ["assert f()", "assert not g()"]
    assert run("show", "t-4", "-f", "code").stdout == "\n"
    assert json.loads(run("show", "t-3", "--json").stdout)["code"] == CODE
    assert list(json.loads(run("show", "t-3", "--json", "-f", "topic,code").stdout)) == ["topic", "code"]


@pytest.mark.parametrize("verb", ["show", "versions"])
def test_what_is_not_there_is_exit_code_1(run: Run, rows: SessionStore, verb: str) -> None:
    result = run(verb, "nobody")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: there is no session nobody\n")


def test_versions_are_newest_first(run: Run, rows: SessionStore) -> None:
    told = lines(run("versions", "t-3"))
    assert [line[0] for line in told] == ["3", "2", "1"]
    assert told[0][3] == "problem_tests,code"
    first, *_ = json.loads(run("versions", "t-3", "--json").stdout)["versions"]
    assert first["changes"]["code"] == ["old", CODE]


def test_stats_are_the_stores_analytics(run: Run, rows: SessionStore) -> None:
    told = dict(lines(run("stats")))
    assert (told["total"], told["success_rate"], told["by_status.completed"]) == ("5", "0.75", "3")
    assert told["by_topic."] == "1"
    groups = json.loads(run("stats", "-g", "topic", "--json").stdout)["groups"]
    assert {(group["key"]["topic"], group["total"]) for group in groups} == {
        ("arrays", 2),
        ("graphs", 1),
        ("strings", 1),
        (None, 1),
    }
    head, *body = lines(run("stats", "-g", "topic", "-b", "day"))
    assert head[:3] == ["start", "topic", "total"]
    assert sum(int(line[2]) for line in body) == 5


@pytest.mark.parametrize("file_format", ["csv", "ndjson", "parquet"])
def test_export_writes_all_that_match(run: Run, rows: SessionStore, tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"sessions.{file_format}"
    result = run("export", str(path), "topic=arrays", "-f", "thread_id,code_attempts", "-o", "thread_id")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"2 sessions in {path}\n"
    if file_format == "csv":
        assert list(csv.reader(path.open())) == [["thread_id", "code_attempts"], ["t-1", "1"], ["t-3", "3"]]
    elif file_format == "ndjson":
        assert [json.loads(line)["code_attempts"] for line in path.read_text().splitlines()] == [1, 3]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        assert parquet.read_table(path).to_pydict() == {"thread_id": ["t-1", "t-3"], "code_attempts": [1, 3]}


def test_stats_of_nothing_are_no_rows_under_the_same_names(run: Run, rows: SessionStore) -> None:
    for words in (["-g", "topic"], ["-b", "day"], ["-b", "day", "-g", "topic"]):
        (head,) = lines(run("stats", *words, "topic=nowhere"))
        assert head == lines(run("stats", *words))[0]


def test_export_to_standard_output(run: Run, rows: SessionStore) -> None:
    result = run("export", "-", "-f", "thread_id", "-o", "thread_id")
    assert next(json.loads(line) for line in result.stdout.splitlines()) == {"thread_id": "t-1"}
    told = run("export", "-", "--format", "csv", "-f", "thread_id").stdout
    assert next(iter(csv.reader(io.StringIO(told)))) == ["thread_id"]


@pytest.mark.parametrize(("path", "code"), [("sessions.txt", 2), ("nowhere/sessions.csv", 1)])
def test_export_to_what_cannot_be_written(run: Run, rows: SessionStore, tmp_path: Path, path: str, code: int) -> None:
    result = run("export", str(tmp_path / path))
    assert result.exit_code == code
    assert len(result.stderr.splitlines()) == 1
    assert ".part" not in result.stderr


def test_watch_ends_after_so_many_changes_that_match(run: Run, rows: SessionStore) -> None:
    told = run("watch", "topic=arrays", "--since", "1h", "--limit", "2", "--json")
    assert [json.loads(line)["thread_id"] for line in told.stdout.splitlines()] == ["t-1", "t-3"]
    assert [line[1] for line in lines(run("watch", "--since", "1h", "--limit", "1"))] == ["t-1"]


def test_clusters_group_what_was_asked(run: Run, store: SessionStore) -> None:
    pytest.importorskip("sklearn")
    for number in range(12):
        store.save(f"s-{number}", {"user_prompt": f"reverse the letters of a string, variant {number}"})
        store.save(f"d-{number}", {"user_prompt": f"days between two calendar dates, variant {number}"})
    told = json.loads(run("clusters", "--json", "--groups", "2").stdout)
    assert {frozenset(name[0] for name in group["thread_ids"]) for group in told["clusters"]} == {
        frozenset("s"),
        frozenset("d"),
    }
    assert len(lines(run("clusters", "--groups", "2"))) == 24


# --- changing ---


def test_init_creates_once_and_prints_what_psql_can_run(run: Run, dsn: str, schema: str) -> None:
    assert json.loads(run("init", "--json").stdout)["done"]
    assert json.loads(run("init", "--json").stdout) == {"table": "session_states", "done": [], "notes": []}
    assert run("init").stdout.startswith("Up to date")
    import psycopg

    other = f"{schema}_printed"
    printed = CliRunner(env={"DATABASE_URL": None}).invoke(app, ["init", "--print", "--schema", other])
    assert printed.exit_code == 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(printed.stdout)
        connection.execute(f'DROP SCHEMA "{other}" CASCADE')


def test_what_deletes_asks_first_and_without_a_terminal_refuses(run: Run, rows: SessionStore) -> None:
    for words in (["delete", "t-1"], ["erase", "topic=arrays"], ["purge", "--older-than", "0s"]):
        result = run(*words, input="y\n")
        assert result.exit_code == 2
        assert "--yes" in result.stderr
    assert rows.count() == 5


def test_delete_erase_and_purge_remove_and_count(run: Run, rows: SessionStore) -> None:
    result = run("delete", "t-1", "t-9", "--yes")
    assert (result.exit_code, result.stdout) == (1, "Deleted 1 session\n")
    assert result.stderr == "error: there is no session t-9\n"
    assert json.loads(run("erase", "user_id=u-1", "--yes", "--json").stdout) == {"deleted": 2}
    assert run("purge", "--older-than", "1h", "--yes").stdout == "Deleted 0 sessions\n"
    assert run("purge", "--older-than", "0s", "--yes").stdout == "Deleted 2 sessions\n"
    assert rows.count() == 0


def test_erase_of_everything_is_refused(run: Run, rows: SessionStore) -> None:
    assert run("erase", "topic__notin=", "--yes").exit_code == 2
    assert run("erase", "--yes").exit_code == 2
    assert rows.count() == 5


def test_demo_records_what_can_be_looked_at(run: Run, store: SessionStore) -> None:
    assert run("demo").exit_code == 2
    told = json.loads(run("demo", "--yes", "--runs", "7", "--json").stdout)
    assert told == {"recorded": 7, "stored": True, "by_status": {"completed": 4, "failed": 2, "interrupted": 1}}
    assert store.analytics(user_id="demo").by_status == told["by_status"]
    assert store.get("demo-3")["code_attempts"] == 3
    assert len(store.versions("demo-1")) >= 1


# --- which record ---


def test_a_record_of_ones_own(run: Run, dsn: str, schema: str) -> None:
    with SessionStore(dsn, record=TicketSession, schema=schema) as store:
        store.save("t", {"question": "why?", "kind": "repair", "priority": "high"})
    record = ["--record", f"{__name__}:TicketSession"]
    assert lines(run("list", *record, "resolved=false"))[0][:5] == ["t", "running", "false", "repair", "high"]
    assert lines(run("watch", *record, "--since", "1h", "--limit", "1"))[0][5] == "high"
    assert run("list", *record, "topic=x").exit_code == 2
    assert lines(run("list", "--table", "ticket_sessions", "-f", "question")) == [["why?"]], (
        "as the database describes it"
    )
    assert run("doctor", *record).exit_code == 0


@pytest.mark.parametrize("record", ["nothing", "no.such:Module", "json:JSONDecoder", "json:nothing", ":X"])
def test_a_record_that_is_none(run: Run, record: str) -> None:
    result = run("list", "--record", record)
    assert result.exit_code == 2, (result.stderr, result.output)
    assert result.stderr.startswith("error: --record")


# --- mistakes ---


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["list", "topik=x"], "did you mean topic?"),
        (["list", "topic__like=x"], "operator of topic"),
        (["list", "arrays"], "field=value"),
        (["list", "limit=5"], "--limit 5"),
        (["list", "code_attempts__gte=many"], "'many'"),
        (["list", "--limit", "0"], "1 to 1000"),
        (["list", "--limit", "1000000000"], "1 to 1000"),
        (["list", "--cursor", "made-up"], "cursor"),
        (["list", "--order-by", "problem_tests"], "no order"),
        (["list", "--fields", "thread_id; DROP TABLE session_states"], "unknown field"),
        (["stats", "--group-by", "nope"], "unknown field"),
        (["stats", "--bucket", "year"], "year"),
        (["watch", "--since", "soon"], "--since"),
        (["purge", "--older-than", "-3d", "--yes"], "--older-than"),
        (["purge", "--older-than", "2999-12-31", "--yes"], "in the future"),
        (["purge", "--older-than", "999999d", "--yes"], "so long ago"),
        (["watch", "--since", "2999-12-31"], "in the future"),
        (["list", "created_at__gte=7d"], "created_at__gte=20"),
        (["list", "updated_at__lt=999999w"], "so long ago"),
        (["list", 'metadata__has={"a"'], "must be JSON"),
        (["stats", 'topic__in=["arrays"'], "must be JSON"),
        (["list", "any_of=[{'topic': 'arrays'}]"], "must be JSON"),
        (["list", "any_of=topic"], '[{"topic": "arrays"}'),
        (["stats", "--group-by", "metadata__model"], "group_by: metadata__model is a path"),
        (["list", "--colour"], "--colour"),
        (["lsit"], "'list'"),
        (["show"], "THREAD_ID"),
    ],
)
def test_mistakes_are_one_line_that_helps_and_exit_code_2(
    run: Run, rows: SessionStore, words: list[str], told: str
) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_what_every_session_is_older_than_is_refused_before_anybody_is_asked(run: Run, rows: SessionStore) -> None:
    assert "in the future" in run("purge", "--older-than", "2999-12-31").stderr
    assert rows.count() == 5


def test_an_age_is_one_by_the_clock_of_the_database(
    run: Run, rows: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        """This machine's clock, a day ahead."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return super().now(tz) + timedelta(days=1)

    monkeypatch.setattr("langgraph_session_store.cli.options.datetime", Ahead)
    assert run("purge", "--older-than", "12h", "--yes").stdout == "Deleted 0 sessions\n"
    assert rows.count() == 5


@pytest.mark.parametrize("verb", ["list", "init", "drain", "stats"])
def test_a_database_that_is_away_is_exit_code_3_and_no_password_is_told(run: Run, verb: str) -> None:
    result = run(verb, "--dsn", "postgresql://me:hunter2@127.0.0.1:1/x")
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert "port 1" in line
    assert "hunter2" not in line


def test_a_table_that_is_missing_is_exit_code_4_and_is_not_made(run: Run, schema: str, dsn: str) -> None:
    for _ in range(2):
        result = run("list")
        assert result.exit_code == 4
        assert "session-store init" in result.stderr


@pytest.mark.parametrize("wrong", ["postgresql://me:hunt@er2@h/x", "nonsense hunter2", "mysql://me:hunter2@h/x"])
def test_a_dsn_that_cannot_be_understood_is_exit_code_2(run: Run, wrong: str) -> None:
    result = run("list", "--dsn", wrong)
    assert result.exit_code == 2, (result.stderr, result.output)
    assert "hunt" not in result.output


def test_a_fault_of_ours_is_a_line_without_values(
    run: Run, rows: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a value of a row")

    monkeypatch.setattr(SessionStore, "query", broken)
    result = run("list")
    assert result.exit_code == 70
    (line,) = result.stderr.splitlines()
    assert "KeyError in test_cli.py" in line
    assert "a value of a row" not in line


def test_an_extra_that_is_missing_is_named(run: Run, rows: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("langgraph_session_store.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(langgraph_session_store, "web", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = run("serve")
    assert result.exit_code == 2
    assert "[web]" in result.stderr


# --- help ---


def test_every_verb_and_option_has_help() -> None:
    command = typer.main.get_command(app)
    assert list(command.commands) != []
    assert sorted(command.commands) == sorted(VERBS), "and every verb stands in a section"
    for name, verb in command.commands.items():
        assert verb.help, name
        for param in verb.params:
            assert getattr(param, "help", None), f"{name} {param.name}"


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_a_page(verb: str) -> None:
    result = CliRunner(env={"FORCE_COLOR": None}).invoke(app, [verb, "--help"], prog_name="session-store")
    assert result.exit_code == 0
    assert f"Usage: session-store {verb}" in result.stdout
    assert "\x1b" not in result.stdout
    assert "Which sessions:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_the_first_page_lists_verbs_whole_and_says_the_exit_codes() -> None:
    result = CliRunner().invoke(app, [], prog_name="session-store")
    assert result.exit_code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\S.*[^.]\.?$", result.stdout, re.MULTILINE), verb
    assert "..." not in result.stdout.replace("[ARGS]...", "")
    assert "Exit codes: 0 done; 1 not found" in result.stdout
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("session-store ")


# --- texts ---


@given(st.text())
def test_what_is_printed_holds_no_orders_to_the_terminal(text: str) -> None:
    assert all(char.isprintable() for char in plain(text))
    assert all(char.isprintable() or char in "\n\t" for char in printable(text))


@given(
    st.lists(st.tuples(st.text(max_size=80), st.none() | st.integers() | st.booleans(), st.text(max_size=80))),
    st.integers(40, 160),
)
def test_a_table_fits_the_terminal(rows: list[tuple[Any, Any, Any]], width: int) -> None:
    columns = [Column("thread_id"), Column("code_attempts", optional=True), Column("user_prompt", flexible=True)]
    table = layout(
        columns, [dict(zip(("thread_id", "code_attempts", "user_prompt"), row, strict=True)) for row in rows], width
    )
    assert all(line.cell_len <= width for line in table)
    assert len(table) >= len(rows)


@pytest.mark.parametrize(
    ("past", "told"),
    [
        (0, "0s ago"),
        (59, "59s ago"),
        (3599, "59m ago"),
        (7200, "2h ago"),
        (3 * 86_400, "3d ago"),
        (-5, "now"),
        (200 * 86_400, "2026-03-15"),
    ],
)
def test_ages(past: int, told: str) -> None:
    now = datetime(2026, 10, 1, tzinfo=UTC)
    assert age(now - timedelta(seconds=past), now) == told


def test_numbers_are_short_and_stand_at_the_right() -> None:
    exact = Decimal("3.1415926535897932384626433832")
    assert [str(shown("x", value)) for value in (exact, Decimal("-12.50"), 1e300)] == ["3.14159", "-12.50", "1e+300"]
    # A unit is only what the store's own columns have.
    assert [str(shown(name, 5.0)) for name in ("duration_minutes", "duration_seconds")] == ["5", "5.0s"]
    rows = [{"price": value, "rate": rate} for value, rate in ((Decimal("1.5"), "83%"), (Decimal(200), None))]
    table = layout([Column("price"), Column("rate", right=True)], rows, 80)
    assert [line.plain for line in table] == ["price  rate", "  1.5   83%", "  200     -"]


@pytest.mark.parametrize(
    ("source", "word", "told"),
    [
        ({}, "t-1", "versions t-1"),
        ({"record_name": "app:Ticket", "schema": "a b"}, "t 1", "versions --record app:Ticket --schema 'a b' 't 1'"),
        ({"table_name": "x", "dsn": "postgresql://me:hunter2@h/d"}, "-1", "versions --table x --dsn ... -- -1"),
    ],
)
def test_a_command_that_is_told_can_be_run(source: dict[str, str], word: str, told: str) -> None:
    names = ("dsn", "record_name", "table_name", "schema")
    assert Source(**{name: source.get(name) for name in names}).command("versions", word) == f"session-store {told}"


def test_ages_and_moments() -> None:
    assert read_moment("2w", "--since") == timedelta(days=14)
    assert read_moment("2026-01-31", "--since") == datetime(2026, 1, 31, tzinfo=UTC)
