"""The documentation tells the truth: its code runs, its tables are complete, its links lead somewhere, and it builds without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import RUN, Block, blocks
from psycopg.conninfo import make_conninfo

import langgraph_session_store
from langgraph_session_store import ProblemSession, SessionStore, testing
from langgraph_session_store.cli import app
from langgraph_session_store.columns import Status
from langgraph_session_store.filters.vocabulary import OPERATORS
from langgraph_session_store.record import table_columns

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
BLOCKS = [(page, block) for page, text in PAGES.items() for block in blocks(text)]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GENERATED = {"docs/reference/cli.md", "docs/reference/rest.md"}
ELSEWHERE = {"docs/rights.md", "docs/deployments.md"}
"""Pages that a test of their own runs, as several roles or against several servers."""
LINKS = [
    (page, link)
    for page, text in [*PAGES.items(), ("README.md", README)]
    for link in re.findall(r"\]\((?!https?://)([^)#]+)", text)
]


def environment(dsn: str, schema: str, home: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_STATE_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")]),
        "DATABASE_URL": make_conninfo(dsn, options=f"-c search_path={schema}"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONWARNINGS": "error:::langgraph_session_store",
        "MPLBACKEND": "agg",
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", sorted({page for page, block in BLOCKS if not block.why} - ELSEWHERE))
def test_the_code_of_a_page_runs(page: str, dsn: str, schema: str, tmp_path: Path) -> None:
    if "session-store init" not in PAGES[page]:  # its reader has a table
        with SessionStore(dsn, schema=schema) as store:
            store.setup()
    command = [sys.executable, str(ROOT / "tests" / "pages.py"), str(ROOT / page)]
    env = environment(dsn, schema, tmp_path)
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("--- ") == sum(block.why is None for block in blocks(PAGES[page]))


def test_what_does_not_run_is_little() -> None:
    runnable = [block for _, block in BLOCKS if block.language in RUN]
    assert len([block for block in runnable if block.why]) * 5 < len(runnable)
    assert all(block.language for _, block in BLOCKS), "a block without a language"


def test_blocks_are_found_with_their_lines_and_reasons() -> None:
    page = "x\n```python\na = 1\n```\n\n<!-- not run: why not -->\n```sh\nmake\n```\n"
    assert blocks(page) == [Block("python", "a = 1", 2), Block("sh", "make", 7, "why not")]


# --- tables -----------------------------------------------------------------------------------------------------------


def first_cells(page: str, head: str) -> set[str]:
    """Return what stands in backticks in the first column of the table whose first line begins so."""
    rows = PAGES[page].split(f"\n{head}")[1].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_table_of_operators_is_complete() -> None:
    assert first_cells("docs/querying.md", "| operator |") == set(OPERATORS)


def test_the_row_is_the_real_one() -> None:
    columns = {column.name for column in table_columns(ProblemSession)}
    assert first_cells("docs/reference/row.md", "| column |") == columns


def test_every_status_is_explained() -> None:
    assert first_cells("docs/explanation/life-of-a-run.md", "| status |") == set(Status.__args__)


def test_the_drawing_of_the_layers_is_the_contract() -> None:
    drawing = subprocess.run(
        [sys.executable, "-c", "import generated; print(generated.layers_drawing(), end='')"],
        cwd=DOCS, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert (DOCS / "images" / "layers.svg").read_text(encoding="utf-8") == drawing, "run python docs/generated.py"


@pytest.mark.parametrize("page", sorted(ELSEWHERE))
def test_a_page_with_a_test_of_its_own_has_one(page: str) -> None:
    tests = [
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)
    ]
    assert any(Path(page).name in text for text in tests)


READ = r"""[\"'](?:[a-z_]+=)?(
    (?:SESSION_STORE|LGSS|POSTGRES|XDG|MLFLOW)_[A-Z_]+ | PG[A-Z]+ | DATABASE_URL | DEBUG_SESSION_STATES | NO_COLOR | TERM
)[\"']"""


def test_the_settings_are_those_that_the_code_reads() -> None:
    package = Path(langgraph_session_store.__file__).parent
    sources = "\n".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    read = set(re.findall(READ, sources, re.VERBOSE))
    assert len(read) > 15
    files = {"SESSION_STORE_TOKEN_FILE", "SESSION_STORE_READ_TOKEN_FILE"}  # made of the names of the tokens
    assert first_cells("docs/reference/settings.md", "| variable |") == read | files


# --- the site ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_the_site_builds_asks_nobody_and_is_complete(tmp_path: Path) -> None:
    """As `make docs` builds it, by a process that cannot reach a network; one test, since each worker would build it anew."""
    site = tmp_path / "site"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    env = {**os.environ, **proxies, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert {path.removeprefix("docs/").replace(".md", ".html") for path in {*PAGES, *GENERATED}} <= set(pages)
    asked = [found for page in pages.values() for found in re.findall(ASSET, page)]
    assert not asked
    _check_command(pages["reference/cli.html"])
    _check_names("\n".join(page for name, page in pages.items() if name.startswith("reference/")))


ASSET = r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?((?:https?:)?//[^\"\s>]+)"


def _check_command(page: str) -> None:
    """Every verb, argument and option of the command is there."""
    group: Any = typer.main.get_command(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        assert f'<h3 id="{name}"' in page, name
        for param in group.get_command(context, name).params:
            for word in param.opts if param.param_type_name == "option" else [param.metavar or param.name.upper()]:
                assert re.search(rf"<code>{re.escape(word)}[ <]", page), (name, word)


def _check_names(reference: str) -> None:
    """Every public name is there; the store for asyncio by its twin."""
    for name in {*langgraph_session_store.__all__, *testing.__all__} - {"AsyncSessionStore"}:
        assert re.search(rf'id="langgraph_session_store[\w.]*\.{name}"', reference), name


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_links_lead_somewhere(page: str, link: str) -> None:
    target = ((ROOT / page).parent / link).resolve()
    assert target.exists() or str(target.relative_to(ROOT)) in GENERATED
