"""The wheel: what is in it, and what an install of the core alone can do and says about the rest."""

from __future__ import annotations

import email
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import langgraph_session_store

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(langgraph_session_store.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = pytest.mark.skipif(PACKAGE.parent != ROOT, reason="needs the sources: here an installed wheel is tested")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@SOURCES
def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(next(name for name in names if name.endswith("/METADATA"))))
    info = {name for name in names if ".dist-info/" in name}
    ours = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert names - info == {path.relative_to(ROOT).as_posix() for path in ours}
    assert {"langgraph_session_store/py.typed", "langgraph_session_store/sql/upsert.sql"} <= names
    assert {Path(name).suffix for name in names if "/web/page/" in name} >= {
        ".html",
        ".css",
        ".js",
        ".svg",
        ".woff2",
        ".sql",
    }
    assert any(name.endswith("licenses/LICENSE") for name in info)
    assert metadata["Version"] == langgraph_session_store.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


@SOURCES
def test_the_sdist_holds_what_a_contributor_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "Makefile",
        "mkdocs.yml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE",
    }
    assert needed | {"tests/conftest.py", "examples/demo.py", "docs/index.md"} <= names
    assert not [name for name in names if name.startswith((".", "build/")) and name != ".gitignore"]


def test_what_is_supported_is_said_once_and_the_same() -> None:
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    (langgraph,) = [need for need in PROJECT["dependencies"] if need.startswith("langgraph>")]
    told = f"Supported: Python {pythons[0]} to {pythons[-1]}, Postgres 14 to 18, langgraph {langgraph[11:16]} and newer"
    for page in ("README.md", "docs/index.md"):
        assert told in (ROOT / page).read_text(encoding="utf-8")
    assert PROJECT["requires-python"] == f">={pythons[0]}"


# --- the core alone ---------------------------------------------------------------------------------------------------


def closure(requirements: list[str]) -> set[str]:
    """Return the distributions that *requirements* need, those of extras that they ask for included."""
    found: dict[str, set[str]] = {}
    left = [Requirement(text) for text in requirements]
    while left:
        need = left.pop()
        name = canonicalize_name(need.name)
        if name in found and need.extras <= found[name]:
            continue
        found[name] = found.get(name, set()) | need.extras
        for text in importlib.metadata.requires(name) or ():
            more = Requirement(text)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in (*found[name], "")):
                left.append(more)
    return set(found)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of a venv that holds the package and what its core needs: the very files of this one, and no others."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in closure(PROJECT["dependencies"]):
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            source, target = Path(str(distribution.locate_file(file))), packages / file
            if ".." not in file.parts and "__pycache__" not in file.parts and source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)
    (packages / PACKAGE.name).symlink_to(PACKAGE)
    return folder / "bin" / "python"


def in_bare(bare: Path, program: str, home: Path) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_STATE_HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([bare, "-c", program], env=env, capture_output=True, text=True, check=False, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout


CORE = """
import importlib, json, pkgutil, sys
import langgraph_session_store as package
from langgraph_session_store import *
from langgraph_session_store.testing import MemoryRecorder, problem_graph

with MemoryRecorder() as recorder:
    recorder.attach(problem_graph()).invoke({"user_prompt": "x"}, {"configurable": {"thread_id": "t"}})
    assert recorder.get("t")["workflow_status"] == "completed"

loaded = []
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if ".web" not in module.name and not module.name.endswith(("__main__", ".fixtures")):
        importlib.import_module(module.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_the_core_alone_imports_and_records(bare: Path, tmp_path: Path) -> None:
    loaded = set(json.loads(in_bare(bare, CORE, tmp_path)))
    assert "langgraph" in loaded
    assert not loaded & {"pandas", "pyarrow", "mlflow", "fastapi", "matplotlib", "sklearn", "pytest"}


WITHOUT = """
import json
from langgraph_session_store import ConfigError, SessionStore
from langgraph_session_store.columns import LEADING
from langgraph_session_store.session import Session, SessionPage

def plot():
    from langgraph_session_store.frames import plots
    plots.durations(page)

def cluster():
    from langgraph_session_store.clusters import cluster_sessions
    cluster_sessions(page, text="thread_id")

def encode():
    from langgraph_session_store.export import make_encoder
    make_encoder("parquet", LEADING)

def web():
    import langgraph_session_store.web

page = SessionPage([Session(thread_id="t")], columns=LEADING)
told = {}
for act in (page.to_pandas, page.to_arrow, page.with_mlflow, plot, cluster, encode, web, SessionStore):
    try:
        act()
        told[act.__name__] = "no error"
    except ConfigError as error:
        told[act.__name__] = str(error)
print(json.dumps(told))
"""


def test_an_extra_that_is_missing_is_named(bare: Path, tmp_path: Path) -> None:
    told = json.loads(in_bare(bare, WITHOUT, tmp_path))
    named = {act: re.findall(r"langgraph-session-store\[(\w+)\]'", text) for act, text in told.items()}
    frames = {act: ["frames"] for act in ("to_pandas", "to_arrow", "with_mlflow", "plot", "cluster", "encode")}
    assert named == {**frames, "web": ["web"], "SessionStore": ["embedded"]}, told


def test_the_command_names_it_too(bare: Path, tmp_path: Path) -> None:
    command = [bare, "-m", "langgraph_session_store.cli", "serve", "--dsn", "host=nowhere.invalid"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COLUMNS": "200"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "langgraph-session-store[web]'" in done.stderr
