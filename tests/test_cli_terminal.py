"""The command as a person and a shell meet it: a real terminal, real pipes, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph_session_store.store import SessionStore

pexpect = pytest.importorskip("pexpect")

COMMAND = str(Path(sys.executable).with_name("session-store"))
COLOUR = re.compile(r"\x1b\[[0-9;]*3[1-6]m")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MARK = "-- done --"
MANY = f"""
import sys
from langgraph_session_store.cli import app
for line in sys.argv[1].splitlines():
    try:
        app([*line.split(), "--schema", sys.argv[2]], prog_name="session-store")
    except SystemExit as end:
        assert not end.code, line
    print("{MARK}", flush=True)
"""
CODE = "def answer():\n    return 42\n"


@pytest.fixture
def environment(dsn: str, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")}
    return {**kept, "DATABASE_URL": dsn, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm-256color", "LANG": "C.UTF-8"}


@pytest.fixture
def terminal(environment: dict[str, str], schema: str) -> Callable[..., Any]:
    """Start the command on a terminal of its own."""

    def start(*words: str, width: int = 80, many: bool = False, **more: str) -> Any:
        return pexpect.spawn(
            sys.executable if many else COMMAND,
            ["-c", MANY, words[0], schema] if many else [*words, "--schema", schema],
            dimensions=(40, width),
            env={**environment, **more},
            encoding="utf-8",
            timeout=120,
        )

    return start


@pytest.fixture
def rows(store: SessionStore) -> SessionStore:
    for number in range(3):
        state = {
            "user_prompt": "Write a long story about " * 10,
            "topic": "arrays",
            "code": CODE,
            "tests_passed": number > 0,
        }
        store.save(f"t-{number}", state, workflow_status="completed" if number else "failed")
    return store


def ended(child: Any) -> tuple[int, str]:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before.replace("\r\n", "\n")


def drawn(terminal: Any, *lines: str, **options: Any) -> list[str]:
    """What each of *lines* shows, all in one process, since most of its time is its start."""
    code, shown = ended(terminal("\n".join(lines), many=True, **options))
    assert code == 0
    return shown.split(MARK)[:-1]


def test_what_is_drawn_on_a_terminal_of_80_columns(terminal: Any, rows: SessionStore) -> None:
    shown = drawn(terminal, "list", "show t-1", "stats -g topic", "versions t-1", "doctor", "list --help")
    assert all(COLOUR.search(part) for part in shown)
    table, session, stats, versions, doctor, page = (ESCAPE.sub("", part).strip() for part in shown)
    for part in (table, session, stats, doctor, page):
        assert max(map(len, part.splitlines())) <= 80
    lines = table.splitlines()
    assert [line.split()[:2] for line in lines[-3:]] == [["t-2", "completed"], ["t-1", "completed"], ["t-0", "failed"]]
    assert lines[-1].endswith("…")
    assert "attempts" not in table, "what a narrow terminal has no room for goes"
    assert re.search(r"\x1b\[[0-9;]*mdef", shown[1]), "Python in colours"
    assert CODE.splitlines()[1] in session
    assert session.startswith("t-1  completed")
    assert "versions (1)" in session
    assert "████" in stats
    assert "+def answer():" in versions
    assert "ok    schema" in doctor
    assert page.startswith("Usage: session-store list [OPTIONS] [FILTER]")


def test_what_is_rare_is_not_rounded_away_and_counts_stand_in_line(terminal: Any, store: SessionStore) -> None:
    rows = [("a", number > 0) for number in range(1200)] + [("b", True)] * 5
    store.save_many(
        {"thread_id": f"t-{number}", "topic": topic, "tests_passed": passed, "workflow_status": "completed"}
        for number, (topic, passed) in enumerate(rows)
    )
    (shown,) = drawn(terminal, "stats -g topic")
    text = ESCAPE.sub("", shown)
    assert "success   >99% of what ended" in text
    assert re.search(r"^a +1,200 +>99%$", text, re.MULTILINE)
    assert re.search(r"^b +5 +100%$", text, re.MULTILINE)
    ends = [re.search(r"(1,200|  5)\b", line) for line in text.splitlines() if re.match("[ab]  ", line)]
    assert len({end and end.end() for end in ends}) == 1


def test_lines_break_between_words_and_an_error_is_red(terminal: Any, store: SessionStore) -> None:
    words = [f"word{number}-{number}" for number in range(40)]
    store.save("t-1", {"code": f"\tdef f():  # {' '.join(words)}\n"})
    store.save("t-1", {"code": "none"}, error="Boom: first\nsecond")
    versions, session = drawn(terminal, "versions t-1", "show t-1")
    lines = ESCAPE.sub("", versions).splitlines()
    assert max(map(len, lines)) <= 80
    assert [word for word in " ".join(lines).split() if word.startswith("word")] == words * 2
    assert re.search(r"^    \+ +def f", "\n".join(lines), re.MULTILINE), "an indent is part of the line"
    assert re.search(r"\x1b\[[0-9;]*31msecond", session)
    code, mistake = ended(terminal("list", "topik=1"))
    assert code == 2
    assert max(map(len, ESCAPE.sub("", mistake).splitlines())) <= 80
    assert all(column.name in mistake for column in store.table.columns)


def test_groups_are_drawn_with_what_was_asked(terminal: Any, store: SessionStore) -> None:
    pytest.importorskip("sklearn")
    for number in range(6):
        store.save(f"s-{number}", {"user_prompt": f"reverse the letters of a string, variant {number}"})
        store.save(f"d-{number}", {"user_prompt": f"days between two calendar dates, variant {number}"})
    groups, none = drawn(terminal, "clusters --groups 2", "clusters topic=none")
    shown = ESCAPE.sub("", groups)
    assert "2 groups of 12 sessions" in shown
    assert shown.count("6 sessions") == 2
    assert "reverse the letters" in shown
    assert "days between" in shown
    assert "No sessions match." in none


def test_a_wide_terminal_shows_more_columns(terminal: Any, rows: SessionStore) -> None:
    (table,) = drawn(terminal, "list", width=140)
    assert "attempts" in table
    assert 80 < max(map(len, ESCAPE.sub("", table).splitlines())) <= 140


def test_no_color_is_honoured(terminal: Any, rows: SessionStore) -> None:
    assert not any(COLOUR.search(part) for part in drawn(terminal, "list", "show t-1", "list --help", NO_COLOR="1"))


def test_deleting_asks_and_takes_no_for_an_answer(terminal: Any, rows: SessionStore) -> None:
    child = terminal("erase", "topic=arrays")
    child.expect_exact("Erase 3 sessions and all history")
    child.expect_exact("[y/N]")
    child.sendline("")
    assert ended(child)[0] == 1
    assert rows.count() == 3

    child = terminal("delete", "t-1")
    child.expect_exact("[y/N]")
    child.sendline("y")
    code, shown = ended(child)
    assert (code, rows.count()) == (0, 2)
    assert "Deleted 1 session" in shown


def test_ctrl_c_at_a_question_and_while_watching_ends_without_a_traceback(terminal: Any, rows: SessionStore) -> None:
    child = terminal("purge", "--older-than", "0s")
    child.expect_exact("[y/N]")
    child.sendintr()
    code, shown = ended(child)
    assert code == 130
    assert "Traceback" not in shown
    assert rows.count() == 3

    child = terminal("watch")
    child.expect_exact("Ctrl-C ends.")
    rows.save("live", {"topic": "graphs"}, workflow_status="interrupted")
    child.expect("live .*interrupted.*graphs")
    child.sendintr()
    code, shown = ended(child)
    assert code == 130
    assert "Traceback" not in shown


# --- pipes ---


@pytest.mark.parametrize("words", ["list -n 1000", "export -", "watch --since 1h --json"])
def test_a_pipe_that_closes_is_a_clean_end(
    environment: dict[str, str], store: SessionStore, schema: str, words: str
) -> None:
    store.save_many({"thread_id": f"t-{number}", "user_prompt": "x" * 1000} for number in range(900))
    script = f"{COMMAND} {words} --schema {schema} | head -c 50 > /dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_in_a_pipe_nothing_is_coloured_and_sigint_is_exit_code_130(
    environment: dict[str, str], rows: SessionStore, schema: str
) -> None:
    child = subprocess.Popen(
        [COMMAND, "watch", "--since", "1h", "--json", "--schema", schema],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(3)]
    child.send_signal(signal.SIGINT)
    rest, errors = child.communicate(timeout=120)
    assert [json.loads(line)["thread_id"] for line in told] == ["t-0", "t-1", "t-2"]
    assert "\x1b" not in "".join(told)
    assert (child.returncode, rest, errors) == (130, "", "")


def test_serve_says_where_and_ends_with_ctrl_c(environment: dict[str, str], rows: SessionStore, schema: str) -> None:
    pytest.importorskip("fastapi")
    words = [COMMAND, "serve", "--port", "0", "--json", "--schema", schema]
    child = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    url = json.loads(child.stdout.readline())["url"]
    with urllib.request.urlopen(f"{url}/api/sessions?topic=arrays") as answer:
        assert json.load(answer)["count"] == 3
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode in (0, 130)
    assert "Traceback" not in errors


def test_a_record_of_the_folder_that_one_is_in(environment: dict[str, str], tmp_path: Path, schema: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from langgraph_session_store import SessionRecord\n"
        "class Ticket(SessionRecord, table='tickets'):\n    question: str | None = None\n"
    )
    words = [COMMAND, "init", "--record", "mine:Ticket", "--schema", schema, "--json"]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["table"] == "tickets"


def test_the_shell_completes_filters(environment: dict[str, str]) -> None:
    line = "session-store list code_attempts__g"
    asked = {"_SESSION_STORE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "2"}
    done = subprocess.run(
        [COMMAND], env={**environment, **asked}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["code_attempts__gt=", "code_attempts__gte="]
