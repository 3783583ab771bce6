"""The embedded Postgres survives whatever happens to its clients, its server and its files, as root and as anybody."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from conftest import SETTINGS, Server, open_folder
from psycopg.pq import PGconn, Ping

import langgraph_session_store.embedded.cluster
from langgraph_session_store.embedded import EmbeddedServer, EmbeddedWarning
from langgraph_session_store.embedded import server as embedded
from langgraph_session_store.embedded.programs import WHEELS, Account, Programs, find_programs
from langgraph_session_store.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = os.geteuid() == 0
ONLY_ROOT = pytest.mark.skipif(not ROOT, reason="needs a second user, and so root")

# A process that obeys: it becomes the given user after its imports, which may lie in a home of root's.
CLIENT = """
import encodings.idna, json, os, pwd, fcntl, sys
import psycopg
from pathlib import Path
from langgraph_session_store.embedded import EmbeddedServer
folder, uid, settings = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
if uid != os.geteuid():
    entry = pwd.getpwuid(uid)
    os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(uid)
server = EmbeddedServer(folder, system=True, settings=settings)
for line in sys.stdin:
    try:
        verb, arg = json.loads(line)
        if verb == "sql":
            with psycopg.connect(**server.start(), autocommit=True) as conn:
                cursor = conn.execute(arg)
                answer = cursor.fetchall() if cursor.description else []
        elif verb == "fork":
            answer = os.fork()
            if not answer:
                import time
                time.sleep(600)
        else:
            answer = getattr(server, verb)()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps(answer), flush=True)
"""


class Client:
    def __init__(self, folder: Path, uid: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", CLIENT, str(folder), str(uid), json.dumps(SETTINGS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def send(self, verb: str, arg: str | None = None) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps([verb, arg]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def __call__(self, verb: str, arg: str | None = None) -> Any:
        self.send(verb, arg)
        return self.answer()

    def exit(self) -> None:
        self.process.communicate(timeout=120)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Place:
    """A data folder, its user, and the clients that a test lets loose on it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.root = open_folder()
        if ROOT and account.uid:
            os.chown(self.root, account.uid, account.gid)
        self.folder = self.root / "pg"
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.folder, self.account.uid))
        return self.clients[-1]

    @property
    def pidfile(self) -> Path:
        return next(self.folder.glob("pg*/data")) / "postmaster.pid"

    @property
    def postmaster(self) -> int:
        return int(self.pidfile.read_text().splitlines()[0])

    def spare(self) -> subprocess.Popen[bytes]:
        """Some other program of the server's user."""
        owner = self.pidfile.parent.stat()
        switch = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if ROOT else {}
        return subprocess.Popen(["sleep", "600"], **switch)

    def close(self) -> None:
        for client in self.clients:
            client.kill()
        try:
            if any(self.folder.glob("pg*/data/postmaster.pid")):  # whoever comes last stops what a kill left
                last = self.client()
                last("start")
                last.exit()
        finally:
            shutil.rmtree(self.root)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def accounts() -> list[Account]:
    me = Account.current()
    return [me, Account.of_uid(pwd.getpwnam("nobody").pw_uid)] if ROOT else [me]


@pytest.fixture(params=accounts(), ids=lambda account: account.name)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(request.param)
    yield place
    place.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    root = open_folder()
    yield root / "pg"
    shutil.rmtree(root)


def test_starts_cold_attaches_and_stops_with_the_last_one(place: Place) -> None:
    first, second = place.client(), place.client()
    kwargs = first("start")
    assert set(kwargs) == {"host", "port", "user", "dbname"}
    assert first("start") == kwargs
    first("sql", "CREATE TABLE t AS SELECT 1 AS n")
    pid = place.postmaster
    assert second("sql", "SELECT n FROM t") == [[1]]
    assert second("sql", "SHOW listen_addresses") == [[""]]
    first("stop")
    assert alive(pid)
    second.exit()
    assert not alive(pid)
    assert first("sql", "SELECT n FROM t") == [[1]]
    assert place.postmaster != pid


def test_two_processes_race_on_a_fresh_folder(place: Place) -> None:
    first, second = place.client(), place.client()
    first.send("start")
    second.send("start")
    assert first.answer() == second.answer()
    pid = place.postmaster
    first.exit()
    assert second("sql", "SELECT 1") == [[1]]
    assert place.postmaster == pid
    second.exit()
    assert not alive(pid)


def test_kill_9_of_the_only_client_leaves_a_server_for_the_next(place: Place) -> None:
    first = place.client()
    first("sql", "CREATE TABLE t AS SELECT 1 AS n")
    pid = place.postmaster
    first.kill()
    second = place.client()
    assert second("sql", "SELECT n FROM t") == [[1]]
    assert place.postmaster == pid
    second.exit()
    assert not alive(pid)


def test_kill_9_of_client_and_server_loses_nothing(place: Place) -> None:
    first = place.client()
    first("sql", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    pid = place.postmaster
    os.kill(pid, signal.SIGKILL)
    first.kill()
    second = place.client()
    assert second("sql", "SELECT count(*) FROM t") == [[1000]]
    os.kill(place.postmaster, signal.SIGKILL)
    assert second("sql", "SELECT count(*) FROM t") == [[1000]], "a client that is still there starts it again"


def test_a_stale_pid_of_another_program_blocks_nothing_and_harms_nobody(place: Place) -> None:
    first = place.client()
    first("start")
    home = place.pidfile
    first("stop")
    other = place.spare()
    zombie = subprocess.Popen(["true"])
    try:
        while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        for pid in (other.pid, zombie.pid):
            home.write_text(f"{pid}\n{home.parent}\n1700000000\n5432\n\n\n  1 2\nready   \n")
            os.chown(home, home.parent.stat().st_uid, home.parent.stat().st_gid)
            assert first("sql", "SELECT 1") == [[1]]
            first("stop")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        zombie.wait()


def test_a_half_written_pidfile_is_cleared_away(place: Place) -> None:
    first = place.client()
    first("start")
    home = place.pidfile
    first("stop")
    for text in ("", "12", "abc\n"):
        home.write_text(text)
        os.chown(home, home.parent.stat().st_uid, home.parent.stat().st_gid)
        assert first("sql", "SELECT 1") == [[1]], text
        first("stop")


def test_a_killed_initdb_leaves_no_half_of_a_cluster(folder: Path) -> None:
    server = EmbeddedServer(folder, system=True, settings=SETTINGS)
    server.start()
    server.stop()
    home = next(folder.glob("pg[0-9]*"))
    shutil.move(home / "data", home / "init.999")
    (home / "init.999" / "global" / "pg_control").unlink()
    server.start()
    server.stop()
    assert not list(home.glob("init.*"))


def test_a_forked_child_neither_keeps_nor_drops_its_parents_lock(place: Place) -> None:
    parent = place.client()
    parent("start")
    pid = place.postmaster
    child = parent("fork")
    try:
        visitor = place.client()
        visitor("start")
        visitor.exit()
        assert alive(pid), "the parent still uses it"
        parent.kill()
        heir = place.client()
        heir("start")
        assert place.postmaster == pid
        heir.exit()
        assert not alive(pid), "the child of a dead parent does not keep it"
    finally:
        os.kill(child, signal.SIGKILL)


def test_it_still_runs_for_exit_handlers_that_came_later(folder: Path) -> None:
    script = (
        "import atexit, psycopg, sys; from pathlib import Path; from langgraph_session_store.embedded import EmbeddedServer\n"
        "server = EmbeddedServer(Path(sys.argv[1]), system=True)\n"
        "atexit.register(lambda: print(psycopg.connect(**server.start()).execute('SELECT 7').fetchone()))\n"
        "server.start()\n"
    )
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENAI_API_KEY": "canary"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, folder], env=os.environ | path, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("(7,)\n", "")
    assert not list(folder.glob("pg*/data/postmaster.pid"))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_server_knows_none_of_our_keys(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.setenv("PGPORT", "1")
    server.start()
    assert b"canary" not in Path(f"/proc/{server.postmaster.pid}/environ").read_bytes()


def test_a_path_too_long_for_a_socket_gets_a_short_one(folder: Path) -> None:
    server = EmbeddedServer(folder / ("x" * 100), system=True, settings=SETTINGS)
    try:
        host = server.start()["host"]
        assert len(host) < 80
        assert Path(host).stat().st_mode & 0o077 == 0
        psycopg.connect(**server.start()).close()
    finally:
        server.stop()
        shutil.rmtree(host)


@ONLY_ROOT
def test_no_other_user_of_this_machine_gets_in(folder: Path) -> None:
    server = EmbeddedServer(folder, system=True, settings=SETTINGS)
    host = Path(server.start()["host"])
    try:
        stranger = Account.of_uid(pwd.getpwnam("daemon").pw_uid)
        assert PGconn.ping(f"host={host}".encode()) == Ping.OK
        programs = server._cluster._programs
        psql = (programs.bin / "psql", "-h", host, "-U", "session_store", "-d", "postgres", "-c", "SELECT 1")
        code, said = stranger.run(*psql, cwd=Path("/"))
        assert code != 0
        assert "Permission denied" in said
        host.chmod(0o755)
        for parent in host.parents[:2]:
            parent.chmod(0o755)
        code, said = stranger.run(*psql, cwd=Path("/"))
        assert code != 0
        assert "Peer authentication failed" in said
    finally:
        server.stop()


@ONLY_ROOT
def test_a_venv_that_the_servers_user_may_not_read_is_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = next((each for each in find_programs(system=False)), None)
    if original is None:
        pytest.skip("needs the [embedded] extra")
    closed = folder.parent / "closed"
    site = original.bin.parents[2]
    closed.mkdir(mode=0o700)
    for name in (original.wheel, f"{original.wheel}.libs"):
        if (site / name).is_dir():
            shutil.copytree(site / name, closed / name)
    hidden = original.__class__(closed / original.bin.relative_to(site), original.version, original.wheel)
    monkeypatch.setattr(langgraph_session_store.embedded.cluster, "find_programs", lambda **_: [hidden])
    for _ in range(2):  # the second time it is there already
        server = EmbeddedServer(folder, settings=SETTINGS)
        with psycopg.connect(**server.start()) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
        server.stop()
    assert closed.stat().st_mode & 0o777 == 0o700
    copy = folder / f"{original.wheel}-{version(original.wheel)}-{original.version}"
    assert (copy / original.bin.relative_to(site) / "postgres").exists()


@ONLY_ROOT
def test_a_folder_that_the_servers_user_may_not_enter_is_an_error_that_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigError, match="who may not enter"):
        EmbeddedServer(tmp_path / "pg", system=True).start()


@ONLY_ROOT
def test_root_does_not_take_over_the_folder_of_another_user(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, pwd.getpwnam("daemon").pw_uid, -1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        EmbeddedServer(folder, system=True).start()


def test_a_user_without_a_name_is_told_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"54321 has no name.*DATABASE_URL"):
        Account.of_uid(54321)


def test_nothing_installed_says_what_to_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(langgraph_session_store.embedded.cluster, "find_programs", lambda **_: [])
    with pytest.raises(ConfigError, match=r"\[embedded\].*LGSS_PG_BIN.*DATABASE_URL"):
        EmbeddedServer(folder).start()


def test_a_wrong_lgss_pg_bin_is_not_silently_passed_over(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("LGSS_PG_BIN", "/nonexistent")
    with pytest.raises(ConfigError, match="LGSS_PG_BIN=/nonexistent"):
        EmbeddedServer(folder, system=True).start()


def test_data_of_another_major_is_not_forgotten_behind_a_new_folder(folder: Path) -> None:
    (folder / "pg10" / "data").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is of Postgres 10"):
        EmbeddedServer(folder, system=True).start()


@pytest.mark.parametrize("programs", find_programs(system=True), ids=lambda each: f"{each.wheel}-{each.version}")
def test_every_postgres_that_is_found_serves(programs: Programs, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LGSS_PG_BIN", str(programs.bin))
    server = EmbeddedServer(folder, settings=SETTINGS)
    try:
        with psycopg.connect(**server.start()) as conn:
            assert conn.info.server_version // 10000 == programs.major
            assert conn.execute("SELECT lower('É') = 'é', 'É' ILIKE 'é'").fetchone() == (True, True)
    finally:
        server.stop()
    assert not set(WHEELS) & set(sys.modules), "the wheels' own code is never imported"


def test_one_process_has_one_server_for_one_folder(folder: Path) -> None:
    assert embedded.embedded_server(folder) is embedded.embedded_server(folder / ".." / folder.name)


def test_the_default_is_announced_once(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(embedded, "_warned", False)
    server = EmbeddedServer(folder)
    with pytest.warns(EmbeddedWarning, match=f"{folder}.*DATABASE_URL"):
        embedded.warn_once(server)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedded.warn_once(server)


def test_a_server_is_not_started_again_while_python_ends(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(embedded, "_exiting", True)
    with pytest.raises(Exception, match="shuts down"):
        EmbeddedServer(folder, system=True).start()
