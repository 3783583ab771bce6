"""The command as a person and a shell meet it: a real terminal, real pipes, real signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
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
CODE = "def answer():\n    return 42\n"


@pytest.fixture
def environment(dsn: str, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")}
    return {**kept, "DATABASE_URL": dsn, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm-256color", "LANG": "C.UTF-8"}


@pytest.fixture
def terminal(environment: dict[str, str], schema: str) -> Callable[..., Any]:
    """Start the command on a terminal of its own."""

    def start(*words: str, width: int = 80, **more: str) -> Any:
        return pexpect.spawn(
            COMMAND,
            [*words, "--schema", schema],
            dimensions=(40, width),
            env={**environment, **more},
            encoding="utf-8",
            timeout=30,
        )

    return start


@pytest.fixture
def rows(store: SessionStore) -> SessionStore:
    for number in range(3):
        state = {"user_prompt": "Write a long story about " * 10, "topic": "arrays", "code": CODE, "tests_passed": number > 0}
        store.save(f"t-{number}", state, workflow_status="completed" if number else "failed")
    return store


def ended(child: Any) -> tuple[int, str]:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before.replace("\r\n", "\n")


@pytest.mark.parametrize("width", [80, 140])
def test_a_list_is_a_table_in_colours_that_fits(terminal: Any, rows: SessionStore, width: int) -> None:
    code, shown = ended(terminal("list", width=width))
    assert code == 0
    assert COLOUR.search(shown)
    table = ESCAPE.sub("", shown).splitlines()
    assert all(len(line) <= width for line in table)
    assert [line.split()[:2] for line in table[-3:]] == [["t-2", "completed"], ["t-1", "completed"], ["t-0", "failed"]]
    assert table[-1].endswith("…")
    assert ("attempts" in table[0] + table[1]) == (width == 140), "what a narrow terminal has no room for goes"


def test_no_color_is_honoured(terminal: Any, rows: SessionStore) -> None:
    code, shown = ended(terminal("show", "t-1", NO_COLOR="1"))
    assert code == 0
    assert not COLOUR.search(shown)
    assert not COLOUR.search(ended(terminal("list", "--help", NO_COLOR="1"))[1])


def test_a_session_is_shown_with_its_code_highlighted_and_its_versions(terminal: Any, rows: SessionStore) -> None:
    code, shown = ended(terminal("show", "t-1"))
    assert code == 0
    assert re.search(r"\x1b\[[0-9;]*mdef", shown), "Python in colours"
    assert CODE.splitlines()[1] in ESCAPE.sub("", shown)
    assert "versions (1)" in shown
    assert "completed" in shown.splitlines()[0]


def test_stats_doctor_versions_and_help_are_drawn(terminal: Any, rows: SessionStore) -> None:
    assert "████" in ended(terminal("stats"))[1]
    doctor = ESCAPE.sub("", ended(terminal("doctor"))[1])
    assert "ok    schema" in doctor
    assert all(len(line) <= 80 for line in doctor.splitlines())
    assert "+def answer():" in ESCAPE.sub("", ended(terminal("versions", "t-1"))[1])
    assert COLOUR.search(ended(terminal("list", "--help"))[1])


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


@pytest.mark.parametrize(
    "words", ["list -n 1000 -f user_prompt", "export - -f user_prompt", "list -n 1000 --json", "watch --since 1h --json"]
)
def test_a_pipe_that_closes_is_a_clean_end(environment: dict[str, str], store: SessionStore, schema: str, words: str) -> None:
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
    rest, errors = child.communicate(timeout=30)
    assert [json.loads(line)["thread_id"] for line in told] == ["t-0", "t-1", "t-2"]
    assert "\x1b" not in "".join(told)
    assert (child.returncode, rest, errors) == (130, "", "")


def test_a_record_of_the_folder_that_one_is_in(environment: dict[str, str], tmp_path: Path, schema: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from langgraph_session_store import SessionRecord\n"
        "class Ticket(SessionRecord, table='tickets'):\n    question: str | None = None\n"
    )
    words = [COMMAND, "init", "--record", "mine:Ticket", "--schema", schema, "--json"]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["table"] == "tickets"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_verbs_and_filters(environment: dict[str, str], shell: str) -> None:
    def complete(line: str) -> str:
        words = line.split(" ")
        env = {
            **environment,
            "_SESSION_STORE_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        return subprocess.run([COMMAND], env=env, capture_output=True, text=True, timeout=60, check=False).stdout

    assert "code_attempts__gte=" in complete("session-store list code_attempts__g")
