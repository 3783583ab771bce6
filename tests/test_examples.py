"""The examples: the agent's parts hold what they promise, and every script runs as its reader would run it."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PATIENT = Path(__file__).with_name("patient.py")
sys.path.insert(0, str(EXAMPLES))

from problem_agent import ModelAuthor, ReferenceAuthor, authors, build_graph, choose_author, load_entries, spread  # noqa: E402
from problem_agent.authors import extract_code  # noqa: E402
from problem_agent.graph import CODE_ATTEMPTS, PROBLEM_ATTEMPTS  # noqa: E402
from problem_agent.mutants import break_code  # noqa: E402
from problem_agent.problems import Entry, Problem, classify  # noqa: E402
from problem_agent.sandbox import run_tests  # noqa: E402

OURS = load_entries(EXAMPLES / "problems.jsonl")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "PROBLEM_AGENT_MODEL")


def problem(*tests: str, imports: tuple[str, ...] = ()) -> Problem:
    return {"description": "", "tests": list(tests), "imports": list(imports)}


# --- problems ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: f"{entry['task_id']}")
def test_the_reference_solutions_pass_their_tests(entry: Entry) -> None:
    assert run_tests(problem(*entry["test_list"], imports=tuple(entry["test_imports"])), entry["code"]).failures == ()


def test_problems_are_spread_over_the_file() -> None:
    assert [entry["task_id"] for entry in spread(OURS, 4)] == [1, 4, 7, 10]
    assert spread(OURS, 1000) == OURS


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Write a function to reverse a string.", ("strings", "easy")),
        ("Write a function to find the nth prime number.", ("numbers", "medium")),
        (
            "Write a function to find the shortest path between two vertices of a graph, among all possible ones.",
            ("graphs", "hard"),
        ),
        ("Please help.", ("other", "easy")),
        ("", ("other", "easy")),
    ],
)
def test_prompts_are_placed_by_their_words(prompt: str, expected: tuple[str, str]) -> None:
    assert classify(prompt) == expected


# --- mutants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: f"{entry['task_id']}")
def test_a_mutant_is_another_program_and_the_same_one_for_the_same_seed(entry: Entry) -> None:
    for seed in range(20):
        mutant = break_code(entry["code"], random.Random(seed))
        assert mutant != ast.unparse(ast.parse(entry["code"]))
        assert mutant == break_code(entry["code"], random.Random(seed))
        compile(mutant, "mutant", "exec")


def test_most_mutants_fail_the_tests() -> None:
    entry = OURS[7]
    mutants = {break_code(entry["code"], random.Random(seed)) for seed in range(12)}
    survivors = [code for code in mutants if run_tests(problem(*entry["test_list"]), code).passed]
    assert len(survivors) < len(mutants) / 2


def test_code_without_a_place_for_a_mistake_stays() -> None:
    assert break_code("x", random.Random(0)) == "x"


# --- the sandbox ------------------------------------------------------------------------------------------------------


def test_each_failed_test_is_reported() -> None:
    report = run_tests(problem("assert f(1) == 2", "assert f(1) == 1", "f(1, 2)"), "def f(x): return x")
    assert not report.passed
    assert report.failures[0] == "assert f(1) == 2: AssertionError"
    assert report.failures[1].startswith("f(1, 2): TypeError: ")
    assert len(report.failures) == 2


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(:", "the code itself: SyntaxError"),
        ("import no_such_module", "the code itself: ModuleNotFoundError"),
        ("raise SystemExit(0)", "the code itself: SystemExit"),
        ("import os; os._exit(0)", "ended before its tests did, with exit status 0"),
        ("import os; print('[]', flush=True); os.write(1, b'[]'); os._exit(0)", "ended before its tests did"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended before its tests did, with exit status -11"),
        ("x = [0] * 10**10", "the code itself: MemoryError"),
        ("while True: pass", "stopped after 1 s of computing"),
        ("import time; time.sleep(1000)", "stopped after 2 s"),
        ("import sys; sys.stdin.read(); raise ValueError", "the code itself: ValueError"),
    ],
)
def test_whatever_the_code_does_is_a_report(code: str, reason: str) -> None:
    report = run_tests(
        problem("assert True"),
        code,
        cpu_seconds=1 if "while" in code else 60,
        wall_seconds=2 if "sleep" in code else 60,
    )
    assert len(report.failures) == 1
    assert report.failures[0].startswith(reason)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_children_of_the_code_end_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
    )
    assert run_tests(problem("assert child.poll() is None"), code).passed
    child = int((tmp_path / "pid").read_text())
    while runs(child):  # the kill is sent; a busy machine takes a moment to act on it
        time.sleep(0.01)


def test_the_code_sees_an_empty_folder_and_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    code = f"import os\nopen({str(tmp_path / 'cwd')!r}, 'w').write(os.getcwd())\nfiles = os.listdir()"
    assert run_tests(problem("assert files == []", "assert 'OPENAI_API_KEY' not in os.environ"), code).passed
    assert not Path((tmp_path / "cwd").read_text()).exists()


# --- the graph --------------------------------------------------------------------------------------------------------


class ScriptedAuthor:
    """Writes the same code again and again."""

    name = "script"

    def __init__(self, code: str) -> None:
        self.code = code

    def plan(self, prompt: str, feedback: str) -> Problem:
        return problem("assert f() == 1")

    def write(self, problem: Problem, attempt: int, feedback: str) -> str:
        return self.code


def test_a_first_solution_that_passes_ends_the_run() -> None:
    end = build_graph(ScriptedAuthor("def f(): return 1")).invoke({"user_prompt": "one"})
    assert (end["tests_passed"], end["code_attempts"], end["problem_attempts"], end["feedback"]) == (True, 1, 1, "")


def test_the_agent_gives_up_after_its_last_attempt() -> None:
    end = build_graph(ScriptedAuthor("def f(): return 2")).invoke({"user_prompt": "one"})
    assert end["tests_passed"] is False
    assert end["code_attempts"] == CODE_ATTEMPTS * PROBLEM_ATTEMPTS
    assert end["problem_attempts"] == PROBLEM_ATTEMPTS
    assert end["feedback"] == "assert f() == 1: AssertionError"


def test_the_shipped_problems_show_first_tries_retries_and_defeats() -> None:
    graph = build_graph(ReferenceAuthor(OURS, seed=5))
    ends = [graph.invoke({"user_prompt": entry["prompt"]}) for entry in OURS]
    assert {(end["tests_passed"], end["code_attempts"] > 1) for end in ends} == {
        (True, False),
        (True, True),
        (False, True),
    }


# --- the model --------------------------------------------------------------------------------------------------------


class ScriptedModel(BaseChatModel):
    """A chat model that says what the test tells it to say, and remembers what it was asked."""

    answers: list[AIMessage]
    asked: list[str] = []  # noqa: RUF012 - pydantic copies it

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.asked.append(messages[-1].text)
        return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])


def test_a_model_plans_writes_and_learns_from_what_failed() -> None:
    draft = {"description": "Write f(x), which doubles.", "tests": ["assert f(2) == 4", "assert f(3) == 6"]}
    plan = AIMessage("", tool_calls=[{"name": "Draft", "args": draft, "id": "1"}])
    wrong, right = (
        AIMessage("```python\ndef f(x): return x ** 2\n```"),
        AIMessage("```python\ndef f(x): return 2 * x\n```"),
    )
    model = ScriptedModel(answers=[plan, wrong, right])
    end = build_graph(ModelAuthor(model, "scripted")).invoke({"user_prompt": "double a number"})
    assert end["problem"] == {**draft, "imports": []}
    assert (end["tests_passed"], end["code_attempts"], end["code"]) == (True, 2, "def f(x): return 2 * x\n")
    assert "double a number" in model.asked[0]
    assert "assert f(3) == 6: AssertionError" in model.asked[2]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("Sure:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\nx = 1\n```\nor, longer\n```py\nx = 1\ny = 2\n```", "x = 1\ny = 2\n"),
    ],
)
def test_code_is_taken_out_of_an_answer(answer: str, code: str) -> None:
    assert extract_code(answer) == code


def test_without_a_key_the_references_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    assert isinstance(choose_author(OURS), ReferenceAuthor)


def test_a_key_without_its_package_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.setenv(key, "")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setattr(authors, "find_spec", lambda package: None)
    assert isinstance(choose_author(OURS), ReferenceAuthor)


# --- the scripts ------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(dsn: str, schema: str) -> str:
    return make_conninfo(dsn, options=f"-c search_path={schema}")


def run_script(name: str, *arguments: str | Path, database: str, home: Path) -> str:
    """Run an example as its reader would, with a Postgres in the environment and nothing else of this one."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_STATE_HOME": str(home),
        "DATABASE_URL": database,
        "PYTHONWARNINGS": "error:::langgraph_session_store",
        "COLUMNS": "120",
    }
    done = subprocess.run(
        [sys.executable, PATIENT, EXAMPLES / name, *arguments],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def rows_of(database: str) -> list[dict[str, Any]]:
    with psycopg.connect(database, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM session_states ORDER BY thread_id").fetchall()


def test_quickstart(database: str, tmp_path: Path) -> None:
    shown = run_script("quickstart.py", database=database, home=tmp_path)
    (row,) = rows_of(database)
    assert (row["thread_id"], row["workflow_status"], row["tests_passed"]) == ("quickstart", "completed", True)
    assert re.search(r"^workflow_status +completed$", shown, re.MULTILINE)


def test_original_example(database: str, tmp_path: Path) -> None:
    shown = run_script("original_example.py", database=database, home=tmp_path)
    assert "one row, saved twice: True" in shown
    assert "workflow_status: completed" in shown
    assert "this one among them: True" in shown
    assert "code: Generated, test cases: 2" in shown
    assert "deleted: True, and again: False" in shown
    assert rows_of(database) == []


def test_demo_twice(database: str, tmp_path: Path) -> None:
    arguments = ("--problems", EXAMPLES / "problems.jsonl", "--home", tmp_path / "demo", "--environment")
    for count in (12, 3):
        shown = run_script("demo.py", *arguments, "--limit", str(count), database=database, home=tmp_path)
        assert f"{count} of {count} rows name the MLflow run that was opened for their thread." in shown
    assert "The other 9 rows in these tables are of earlier demos." in shown
    rows = rows_of(database)
    assert {row["workflow_status"] for row in rows} == {"completed", "failed"}
    for row in rows:
        assert row["tests_passed"] is (row["workflow_status"] == "completed")
        assert row["user_prompt"] in {entry["prompt"] for entry in OURS}
        assert row["problem_tests"]
        assert json.dumps(row["rejected"]) in ("null", "{}")
