"""`make demo`: every run of the problem agent becomes a row, and each row names its MLflow run."""

from __future__ import annotations

import argparse
import logging
import os
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from problem_agent import Entry, ReferenceAuthor, build_graph, choose_author, load_entries, spread
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from langgraph_session_store import SessionRecorder, SessionStore
from langgraph_session_store.web import serve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
OURS = ROOT / "examples" / "problems.jsonl"
MBPP = ROOT.parent / "shared" / "data" / "mbpp.jsonl"
USER = "demo"
WORKERS = 2
PORT = 8000
SHOWN = 10

SUMMARY = """
    SELECT thread_id, problem_status, code_status, tests_passed, test_cases_count, round(duration_seconds::numeric, 2)
    FROM session_states_summary WHERE user_id = %s ORDER BY duration_seconds DESC NULLS LAST LIMIT 5
"""


def main() -> None:
    """Run the agent over the problems, then show what the store holds."""
    options = parse_arguments()
    console = Console(highlight=False)
    source = options.problems or (MBPP if MBPP.is_file() else OURS)
    known = load_entries(source)
    author = choose_author(known, options.seed)
    by_reference = isinstance(author, ReferenceAuthor)
    entries = spread(known, options.limit or (100 if by_reference else 12))
    prefix = source.stem if by_reference else f"model-{source.stem}"

    with console.status("Starting MLflow and Postgres ..."):
        mlflow = open_mlflow(options.home)
        store = SessionStore() if options.environment else SessionStore.embedded()
        store.setup()
    console.print(f"Problems  {len(entries)} of {source.name}\nSolutions {author.name}", soft_wrap=True)
    console.print(f"Postgres  {store.target.describe()}\nMLflow    {options.home / 'mlflow.db'}\n", soft_wrap=True)

    with store:
        with SessionRecorder(store, user_id=USER) as recorder:
            graph = recorder.attach(build_graph(author))
            run_all(entries, prefix, graph, mlflow, console)
        show_rows(store, {f"{prefix}-{entry['task_id']}" for entry in entries}, mlflow, console)
        if options.chart:
            store.analytics(group_by="topic", user_id=USER).plot().savefig(options.chart, dpi=160)
        show_next_steps(options, console)
        if options.serve:
            serve_dashboard(store, console)


def parse_arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=Path, help="a file like examples/problems.jsonl")
    parser.add_argument("--limit", type=int, help="how many of them (100; with a model, which costs: 12)")
    parser.add_argument("--seed", type=int, default=5, help="chooses which first attempts are broken")
    parser.add_argument(
        "--environment", action="store_true", help="use DATABASE_URL or POSTGRES_*, no embedded Postgres"
    )
    parser.add_argument("--serve", action="store_true", help="leave the dashboard open on the rows, until Ctrl-C")
    parser.add_argument("--chart", type=Path, help="draw the sessions by topic into this file, svg or png")
    parser.add_argument("--home", type=Path, default=ROOT / ".demo", help="where MLflow keeps its files")
    return parser.parse_args()


def open_mlflow(home: Path) -> ModuleType:
    """Return mlflow on a local store in *home*."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    home.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    if mlflow.get_experiment_by_name("problem agent") is None:
        mlflow.create_experiment("problem agent", artifact_location=(home / "artifacts").as_uri())
    mlflow.set_experiment("problem agent")
    return mlflow


def run_all(entries: list[Entry], prefix: str, graph: Any, mlflow: ModuleType, console: Console) -> None:
    """Run *graph* once for each entry, on a thread of its own, inside a MLflow run of its own."""

    def solve(entry: Entry) -> str:
        thread_id = f"{prefix}-{entry['task_id']}"
        try:
            with mlflow.start_run(run_name=thread_id, tags={"thread_id": thread_id}):
                end = graph.invoke({"user_prompt": entry["prompt"]}, {"configurable": {"thread_id": thread_id}})
                mlflow.log_metrics({name: end[name] for name in ("tests_passed", "code_attempts", "problem_attempts")})
        except Exception as error:  # a model that does not answer: its row says so
            return type(error).__name__
        return "passed" if end["tests_passed"] else "not passed"

    outcomes: Counter[str] = Counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(WORKERS) as pool:
        bar = progress.add_task("Solving", total=len(entries))
        try:
            for future in as_completed([pool.submit(solve, entry) for entry in entries]):
                outcomes[future.result()] += 1
                described = ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
                progress.update(bar, advance=1, description=described)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


def show_rows(store: SessionStore, solved: set[str], mlflow: ModuleType, console: Console) -> None:
    """Print the latest rows, the slowest of the summary view, counts by topic and difficulty, and how many of *solved* were linked."""
    rows = store.query(user_id=USER, order_by="-updated_at", limit=1000)
    columns: tuple[str, ...] = ("thread_id", "topic", "difficulty", "workflow_status", "code_attempts", "run_id")
    latest = ([*(row[column] for column in columns[:-1]), row["run_id"][:8]] for row in rows[:SHOWN])
    heads = ("thread_id", "topic", "difficulty", "status", "attempts", "MLflow run")
    console.print(as_table("The latest rows", heads, latest))

    columns = ("thread_id", "problem", "code", "tests passed", "test cases", "seconds")
    with psycopg.connect(**store.target.kwargs()) as connection:
        console.print(as_table("The slowest, in session_states_summary", columns, connection.execute(SUMMARY, [USER])))

    groups = store.analytics(group_by=["topic", "difficulty"], user_id=USER).groups
    counts = (
        (*group.key.values(), group.total, rounded(group.success_rate, 2), rounded(group.average_code_attempts, 1))
        for group in sorted(groups, key=lambda group: -group.total)
    )
    columns = ("topic", "difficulty", "sessions", "success rate", "code attempts, mean")
    console.print(as_table("By topic and difficulty", columns, counts))

    threads = {
        run.info.run_id: run.data.tags["thread_id"]
        for run in mlflow.search_runs(output_format="list", max_results=50_000)
    }
    ours = [row for row in rows if row["thread_id"] in solved]
    right = sum(threads.get(row["run_id"]) == row["thread_id"] for row in ours)
    console.print(f"{right} of {len(ours)} rows name the MLflow run that was opened for their thread.")
    if others := len(rows) - len(ours):
        console.print(f"The other {others} rows in these tables are of earlier demos.")


def rounded(number: float | None, digits: int) -> str:
    """Return *number* with *digits* behind the point, empty for None."""
    return "" if number is None else f"{number:.{digits}f}"


def as_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return *rows* as a table."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    return table


def show_next_steps(options: argparse.Namespace, console: Console) -> None:
    """Print three commands to try next."""
    named = (
        []
        if options.environment
        else [name for name in os.environ if name == "DATABASE_URL" or name[:9] == "POSTGRES_"]
    )
    command = f"{'env ' + ' '.join(f'-u {name}' for name in named) + ' ' if named else ''}.venv/bin/session-store"
    console.print("\nTry next", style="bold")
    for line in (
        f"{command} list tests_passed=false --fields thread_id,topic,code_attempts",
        f"{command} serve    # the dashboard on these rows, live",
        f".venv/bin/mlflow ui --port 5001 --backend-store-uri sqlite:///{options.home / 'mlflow.db'}",
    ):
        console.print(f"  {line}", soft_wrap=True, markup=False)


def serve_dashboard(store: SessionStore, console: Console) -> None:
    """Serve the dashboard on port 8000, or on a free one where that is taken, until Ctrl-C."""

    def ready(url: str) -> None:
        console.print(f"\nThe dashboard is at [bold]{url}[/bold]; Ctrl-C ends.", soft_wrap=True)

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", PORT)) == 0
    serve(store, port=0 if taken else PORT, ready=ready)


if __name__ == "__main__":
    main()
