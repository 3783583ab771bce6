"""What the server is told by its caller and by the environment: tokens, hosts, limits."""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Scope = Literal["read", "write"]

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and one peer, may ask for."""

    body: int = 1 << 20
    """Bytes of a body; no route reads one."""
    query: int = 48 << 10
    """Bytes of a query string."""
    requests: float = 2000.0
    """Requests per second of one peer, with twice as many at once."""
    failures: float = 20.0
    """Wrong tokens per second of one peer, with ten times as many at once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server guards itself; `Settings.make` reads the environment. Printing it shows no token."""

    tokens: tuple[tuple[bytes, Scope], ...] = field(default=(), repr=False)
    """SHA-256 of each token, and what it is good for."""
    hosts: frozenset[str] = _LOCAL
    limits: Limits = Limits()

    @classmethod
    def make(
        cls,
        token: str | None = None,
        read_token: str | None = None,
        allowed_hosts: Sequence[str] = (),
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Return the settings of a server; ConfigError where they contradict each other."""
        write = token or _secret("SESSION_STORE_TOKEN", environ)
        read = read_token or _secret("SESSION_STORE_READ_TOKEN", environ)
        if write and write == read:
            raise ConfigError(
                "SESSION_STORE_TOKEN and SESSION_STORE_READ_TOKEN are the same: one of them may only read"
            )
        named = [*allowed_hosts, *environ.get("SESSION_STORE_HOSTS", "").split(",")]
        hosts = _LOCAL | {name.strip().lower() for name in named if name.strip()} | {socket.gethostname().lower()}
        tokens: list[tuple[bytes, Scope]] = [(_digest(write), "write")] if write else []
        if read:
            tokens.append((_digest(read), "read"))
        return cls(tuple(tokens), frozenset(hosts))

    @property
    def guarded(self) -> bool:
        """Whether a token is needed."""
        return bool(self.tokens)

    def scope_of(self, token: str) -> Scope | None:
        """Return what *token* is good for; takes as long for a wrong one as for a right one."""
        given = _digest(token)
        found: Scope | None = None
        for digest, scope in self.tokens:
            if hmac.compare_digest(given, digest):
                found = scope
        return found

    def knows(self, host: str) -> bool:
        """Return whether *host*, of a Host header or an origin, is ours: a name we were given, or an address.

        A page on a foreign name that was pointed at us (DNS rebinding) still sends its own name, never an address.
        """
        name = host.lower().rsplit(":", 1)[0] if host.count(":") == 1 or "]:" in host else host.lower()
        name = name.strip("[]").removesuffix(".")
        return name in self.hosts or is_address(name)


def check_bind(host: str, settings: Settings) -> None:
    """Raise ConfigError where a server without a token would be reachable from elsewhere."""
    if not settings.guarded and not is_loopback(host):
        raise ConfigError(
            f"host {host} can be reached from other machines, and there is no token: set SESSION_STORE_TOKEN "
            "(and SESSION_STORE_READ_TOKEN for people who only look), for example to the output of "
            "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`; or bind 127.0.0.1"
        )


def is_address(name: str) -> bool:
    """Return whether *name* is an IP address."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether *host* is this machine only."""
    name = host.strip("[]").lower()
    return name == "localhost" or (is_address(name) and _loopback(name))


def _loopback(name: str) -> bool:
    address = ip_address(name)
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _secret(name: str, environ: Mapping[str, str]) -> str | None:
    if value := environ.get(name, "").strip():
        return value
    if path := environ.get(f"{name}_FILE"):
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}_FILE cannot be read ({type(error).__name__})") from None
        if not value:
            raise ConfigError(f"{name}_FILE names an empty file: an empty token protects nothing")
        return value
    return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
