"""A tiny agent for `session-store demo`: its problems and answers are canned, its tests really run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypedDict

from ..recorder import SessionRecorder

if TYPE_CHECKING:
    from ..store import SessionStore
    from .output import Output

USER: Final = "demo"
_ATTEMPTS: Final = 3


class State(TypedDict, total=False):
    """What the agent knows; the fields of `ProblemSession` by name."""

    user_prompt: str
    topic: str
    difficulty: str
    problem_description: str
    problem_tests: list[str]
    code: str
    tests_passed: bool
    code_attempts: int
    problem_attempts: int


@dataclass(frozen=True)
class Problem:
    """A prompt, what the agent makes of it, and the answers that it gives one after the other."""

    prompt: str
    topic: str
    difficulty: str
    description: str
    tests: tuple[str, ...]
    answers: tuple[str, ...]


PROBLEMS: Final = (
    Problem(
        "Something about palindromes, for beginners",
        "strings",
        "easy",
        "Write is_palindrome(text), true where the letters of text read the same backwards, whatever their case.",
        ("assert is_palindrome('Never odd or even')", "assert not is_palindrome('session')"),
        (
            "def is_palindrome(text):\n    return text == text[::-1]\n",
            "def is_palindrome(text):\n    letters = [c for c in text.lower() if c.isalpha()]\n    return letters == letters[::-1]\n",
        ),
    ),
    Problem(
        "A warm-up with lists",
        "lists",
        "easy",
        "Write distinct(items), the items without repetitions, in the order in which they came first.",
        ("assert distinct([3, 1, 3, 2, 1]) == [3, 1, 2]", "assert distinct([]) == []"),
        ("def distinct(items):\n    return list(dict.fromkeys(items))\n",),
    ),
    Problem(
        "Shortest paths, please make it hard",
        "graphs",
        "hard",
        "Write hops(edges, start, end), the least number of edges between two nodes of an undirected graph, or None.",
        ("assert hops([('a', 'b'), ('b', 'c')], 'a', 'c') == 2", "assert hops([('a', 'b')], 'a', 'z') is None"),
        (
            "def hops(edges, start, end):\n    return len(edges)\n",
            "def hops(edges, start, end):\n    return dict(edges)[start] == end\n",
            """def hops(edges, start, end):
    seen, layer, steps = {start}, {start}, 0
    while layer:
        if end in layer:
            return steps
        layer = {b for pair in edges for a, b in (pair, pair[::-1]) if a in layer} - seen
        seen |= layer
        steps += 1
""",
        ),
    ),
    Problem(
        "Dates, medium",
        "dates",
        "medium",
        "Write is_leap(year) for the Gregorian calendar.",
        ("assert is_leap(2024)", "assert not is_leap(1900)", "assert is_leap(2000)"),
        (
            "def is_leap(year):\n    return year % 4 == 0\n",
            "def is_leap(year):\n    return year % 4 == 0 and year % 100 != 0\n",
            "def is_leap(year):\n    return not year % 4 and bool(year % 100)\n",
        ),
    ),
    Problem(
        "Numbers: the sieve",
        "numbers",
        "medium",
        "Write primes(limit), all primes below limit.",
        ("assert primes(12) == [2, 3, 5, 7, 11]", "assert primes(2) == []"),
        (
            "def primes(limit):\n    return [n for n in range(2, limit) if all(n % d for d in range(2, int(n**0.5) + 1))]\n",
        ),
    ),
    Problem("Recursion, but first ask me which", "recursion", "medium", "?", (), ()),
    Problem("A problem about quantum sorting", "sorting", "hard", "!", (), ()),
)


def build() -> Any:
    """Return the agent: it understands the prompt, writes code and tests it until it passes or three attempts are over."""
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph

    known = {problem.prompt: problem for problem in PROBLEMS}

    def understand(state: State) -> State:
        from langgraph.types import interrupt

        problem = known[state["user_prompt"]]
        found: State = {"topic": problem.topic, "difficulty": problem.difficulty, "problem_attempts": 1}
        if problem.description == "?":
            interrupt("Which kind of recursion?")
        if problem.description == "!":
            raise RuntimeError("the model is overloaded (a canned failure of the demo)")
        return {**found, "problem_description": problem.description, "problem_tests": list(problem.tests)}

    def write(state: State) -> State:
        attempt = state.get("code_attempts", 0)
        return {"code": known[state["user_prompt"]].answers[attempt], "code_attempts": attempt + 1}

    def test(state: State) -> State:
        return {"tests_passed": passes(state["code"], state["problem_tests"])}

    def more(state: State) -> str:
        left = len(known[state["user_prompt"]].answers) - state["code_attempts"]
        return END if state["tests_passed"] or not left or state["code_attempts"] >= _ATTEMPTS else "write"

    graph = StateGraph(State)
    graph.add_node("understand", understand)
    graph.add_node("write", write)
    graph.add_node("test", test)
    graph.add_edge(START, "understand")
    graph.add_edge("understand", "write")
    graph.add_edge("write", "test")
    graph.add_conditional_edges("test", more, ["write", END])
    return graph.compile(checkpointer=InMemorySaver(), name="demo")


def passes(code: str, tests: list[str]) -> bool:
    """Return whether canned *code* passes its tests."""
    space: dict[str, Any] = {}
    try:
        for text in (code, *tests):
            exec(text, space)  # noqa: S102 - both are written above
    except Exception:
        return False
    return True


def run(store: SessionStore, out: Output, runs: int) -> None:
    """Record *runs* of the agent and say what to look at."""
    ends: Counter[str] = Counter()
    with SessionRecorder(store, user_id=USER) as recorder, out.progress("Recording") as progress:
        graph = recorder.attach(build())
        for place in range(runs):
            problem = PROBLEMS[place % len(PROBLEMS)]
            config = {"configurable": {"thread_id": f"demo-{place + 1}"}}
            try:
                end = graph.invoke({"user_prompt": problem.prompt}, config)
                ends["interrupted" if "__interrupt__" in end else "completed" if end["tests_passed"] else "failed"] += 1
            except RuntimeError:  # the canned failure, which its row tells
                ends["failed"] += 1
            if progress:
                progress(place + 1, runs)
        flushed = recorder.flush(30.0)
    if out.json:
        out.document({"recorded": runs, "stored": bool(flushed), "by_status": dict(ends)})
        return
    told = ", ".join(f"{count} {name}" for name, count in ends.most_common())
    out.say(("Recorded ", "green"), f"{runs} runs on {store.target.describe()}: {told}")
    for command in ("list user_id=demo", "show demo-1", "stats user_id=demo --group-by topic", "erase user_id=demo"):
        out.say((f"  session-store {command}", "cyan"))
