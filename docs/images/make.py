"""Make dashboard.png and session.png from the demo's rows: `python docs/images/make.py`.

Runs the demo twice on a Postgres of its own, of which nothing remains, serves the rows, and takes the pictures with Debian's chromium
(`apt install chromium`) and the packages of the test group.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright
from psycopg.conninfo import make_conninfo

from langgraph_session_store import SessionStore
from langgraph_session_store.embedded import EmbeddedServer
from langgraph_session_store.web import serve

HERE = Path(__file__).resolve().parent
DEMO = HERE.parents[1] / "examples" / "demo.py"
ARGUMENTS = ["--no-sandbox", "--disable-gpu"]


def main() -> None:
    """Fill a database, serve it, look at it."""
    folder = Path(tempfile.mkdtemp(prefix="lgss-images-"))
    folder.chmod(0o755)  # the server's user goes through it
    server = EmbeddedServer(folder / "pg", system=True)
    try:
        dsn = make_conninfo(**server.start())
        for seed in ("5", "7"):  # the second run of a thread gives it versions
            run_demo(dsn, folder, seed)
        with SessionStore(dsn) as store:
            photograph(address(store), session(store))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def run_demo(dsn: str, folder: Path, seed: str) -> None:
    """Let the demo's agent solve its problems, some of them at a later attempt."""
    command = [sys.executable, str(DEMO), "--environment", "--home", str(folder / "demo")]
    command += ["--seed", seed, "--limit", "300"]
    environ = {**os.environ, "DATABASE_URL": dsn, "XDG_STATE_HOME": str(folder / "state")}
    subprocess.run(command, env=environ, check=True)  # noqa: S603 - our own demo


def session(store: SessionStore) -> str:
    """Return a thread whose code changed between its two runs, which not both went well."""
    for row in store.iter(order_by=["tests_passed", "thread_id"]):
        newest, *older = store.versions(row["thread_id"])
        if older and newest.changes.keys() >= {"code", "tests_passed"}:
            return str(row["thread_id"])
    raise SystemExit("no session has two versions: choose other seeds")


def address(store: SessionStore) -> str:
    """Serve *store* until this process ends; return where."""
    found: list[str] = []
    listens = threading.Event()

    def ready(url: str) -> None:
        found.append(url)
        listens.set()

    where = {"port": 0, "mlflow_uri": "http://127.0.0.1:5000", "ready": ready}
    threading.Thread(target=serve, args=(store,), kwargs=where, daemon=True).start()
    listens.wait()
    return found[0]


def photograph(url: str, thread_id: str) -> None:
    """Take both pictures."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for name, path, scheme, height in (
            ("dashboard", "/", "light", 860),
            ("session", f"/session?thread_id={thread_id}", "dark", 1080),
        ):
            size = {"width": 1280, "height": height}
            page = browser.new_page(viewport=size, device_scale_factor=1.5, color_scheme=scheme)
            page.goto(url + path)
            page.wait_for_selector(".wait, [aria-busy]", state="detached")
            page.wait_for_selector("#live[data-state=on]")
            page.screenshot(path=HERE / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
