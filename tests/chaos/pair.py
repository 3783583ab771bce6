"""A primary and its standby, which can be promoted; with synchronous replication what is committed is on both."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from langgraph_session_store.embedded.programs import Account, find_programs

from .fleet import until

if TYPE_CHECKING:
    from collections.abc import Mapping

HBA = "local all all trust\nlocal replication all trust\n"


class Pair:
    """Two servers that speak on sockets in *folder*, which the user who serves for root must be able to enter."""

    def __init__(self, folder: Path, *, synchronous: bool = True) -> None:
        self.folder, self._synchronous = folder, synchronous
        self._account = Account.for_root() if os.geteuid() == 0 else Account.current()
        found = find_programs(system=True)[0]
        folder.chmod(0o777)
        self._bin = found.for_account(self._account, folder).bin
        (folder / "hba").write_text(HBA)
        (folder / "hba").chmod(0o644)
        self.dsn = make_conninfo(
            host=f"{folder}/a,{folder}/b", port="5432,5432", user="postgres", dbname="postgres", connect_timeout=2
        )

    def __enter__(self) -> Self:
        self._run(
            "initdb",
            "-D",
            self.data("a"),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        if self._synchronous:  # before it starts: what is set later is heard of a moment later
            with Path(self.data("a"), "postgresql.conf").open("a") as file:
                file.write("synchronous_standby_names = '*'\n")
        self.start("a")
        slot = ["-C", "-S", "b", "-X", "stream", "-c", "fast", "-R", "--no-sync"]
        self._run("pg_basebackup", "-h", f"{self.folder}/a", "-U", "postgres", "-D", self.data("b"), *slot)
        self.start("b")
        return self

    def __exit__(self, *_: object) -> None:
        for name in "ab":
            self.signal(name, signal.SIGCONT)
            self._account.run(self._bin / "pg_ctl", "stop", "-D", self.data(name), "-m", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def data(self, name: str) -> str:
        return f"{self.folder}/data-{name}"

    def dsn_of(self, name: str) -> str:
        return make_conninfo(host=f"{self.folder}/{name}", user="postgres", dbname="postgres")

    def start(self, name: str) -> None:
        (self.folder / name).mkdir(mode=0o777, exist_ok=True)
        (self.folder / name).chmod(0o777)
        settings = {
            "listen_addresses": "", "unix_socket_directories": f"{self.folder}/{name}", "fsync": "off",
            "hba_file": f"{self.folder}/hba", "wal_receiver_status_interval": "1", "log_min_messages": "fatal",
        }  # fmt: skip
        options = " ".join(f"-c {key}='{value}'" for key, value in settings.items())
        self._run("pg_ctl", "start", "-w", "-D", self.data(name), "-l", f"{self.data(name)}.log", "-o", options)

    def promote(self) -> None:
        """Make the standby the primary; it waits for no other from now on."""
        self._run("pg_ctl", "promote", "-w", "-D", self.data("b"))
        self.execute("b", "ALTER SYSTEM SET synchronous_standby_names = ''")
        self.execute("b", "SELECT pg_reload_conf()")

    def cut(self) -> None:
        """Let the standby hear nothing more of what the primary commits."""
        (self.folder / "hba").write_text(HBA.replace("replication all trust", "replication all reject"))
        self.execute("a", "SELECT pg_reload_conf()")
        self.execute("a", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")

    @property
    def connected(self) -> bool:
        """Whether the standby hears of what the primary commits."""
        return self.ask("a", "SELECT FROM pg_stat_replication")

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, number: signal.Signals) -> None:
        pidfile = Path(self.data(name)) / "postmaster.pid"
        if not pidfile.exists() or not psutil.pid_exists(pid := int(pidfile.read_text().split()[0])):
            return
        postmaster = psutil.Process(pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # some come and go, and all end when they miss their parent
                process.send_signal(number)

    def execute(self, name: str, text: str) -> None:
        with psycopg.connect(self.dsn_of(name), autocommit=True) as connection:
            connection.execute(text.encode())

    def ask(self, name: str, text: str) -> bool:
        """Return whether the query finds any row."""
        with psycopg.connect(self.dsn_of(name), autocommit=True) as connection:
            return bool(connection.execute(text.encode()).fetchall())

    def _run(self, program: str, *words: str) -> None:
        code, said = self._account.run(self._bin / program, *words, cwd=self.folder)
        assert code == 0, said


class Bouncer:
    """PgBouncer in transaction mode, with fewer connections to the server than clients; *settings* are added to its own."""

    def __init__(
        self, folder: Path, host: str, port: int, user: str, database: str, *, settings: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        folder.chmod(0o777)
        more = "".join(f"{key} = {value}\n" for key, value in (settings or {}).items())
        (folder / "users").write_text(f'"{user}" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n{database} = host={host} port={port} user={user}\n[pgbouncer]\nlisten_addr =\n"
            f"unix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = trust\nauth_file = {folder}/users\n"
            f"pool_mode = transaction\ndefault_pool_size = 2\nserver_login_retry = 1\n{more}"
        )
        for name in ("users", "ini"):
            (folder / name).chmod(0o644)
        account = Account.for_root() if os.geteuid() == 0 else Account.current()
        self.process = subprocess.Popen(
            [self.program(), "-q", str(folder / "ini")], user=account.uid if os.geteuid() == 0 else None,
            group=account.gid if os.geteuid() == 0 else None, extra_groups=[] if os.geteuid() == 0 else None,
            stderr=sys.stderr,
        )  # fmt: skip
        self.dsn = make_conninfo(host=str(folder), port="6432", user=user, dbname=database)

    @staticmethod
    def program() -> str:
        where = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
        return shutil.which("pgbouncer", path=where) or "pgbouncer"

    @classmethod
    def version(cls) -> tuple[int, ...]:
        said = subprocess.run([cls.program(), "-V"], capture_output=True, text=True, check=True).stdout
        return tuple(map(int, said.split()[1].split(".")[:2]))

    def __enter__(self) -> Self:
        until(self._serves)
        return self

    def _serves(self) -> bool:
        assert self.process.poll() is None, "it did not start"
        try:
            psycopg.connect(self.dsn, connect_timeout=30).close()
        except psycopg.OperationalError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
