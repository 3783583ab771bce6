"""Who may ask, from where, and how much."""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.responses import Response
from web_serving import served

from langgraph_session_store import ConfigError
from langgraph_session_store.web import create_app, serve
from langgraph_session_store.web.security import Buckets, Guard
from langgraph_session_store.web.settings import Limits, Settings, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

    from langgraph_session_store.store import SessionStore

WRITE, READ = "w" * 40, "r" * 40


@pytest.fixture
def guarded(store: SessionStore) -> Iterator[httpx.Client]:
    store.save("t", {"code": "1"})
    with served(store, token=WRITE, read_token=READ) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path of *app*, however deep it was included."""
    found: list[tuple[str, str]] = []

    def walk(items: object) -> None:
        for route in items:  # type: ignore[attr-defined]
            if isinstance(route, APIRoute) or hasattr(route, "methods"):
                path = route.path.replace("{thread_id:path}", "t").replace("{name}", "app.css")
                found.extend((method, path) for method in route.methods or ())
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            walk(getattr(inner, "routes", ()) or ())

    walk(app.routes)
    return found


PUBLIC = {"/", "/session", "/healthz", "/readyz", "/favicon.ico", "/static/app.css"}


def test_no_route_was_forgotten(guarded: httpx.Client, store: SessionStore) -> None:
    swept = set(routes(create_app(store, token=WRITE)))
    documented = {
        (method.upper(), path.replace("{thread_id}", "t"))
        for path, methods in guarded.get("/openapi.json", headers=bearer(READ)).json()["paths"].items()
        for method in methods
    }
    swept |= documented | {
        ("GET", f"/fragments/{name}") for name in ("counters", "charts", "filters", "table", "session")
    }
    swept |= {
        ("GET", "/openapi.json"),
        ("GET", "/api/sessions/events"),
        ("GET", "/no/such/route"),
        ("POST", "/api/sessions"),
    }
    assert len(swept) > 20
    for method, path in sorted(swept):
        if path in PUBLIC:
            continue
        for headers in ({}, bearer("wrong"), {"Authorization": f"Basic {WRITE}"}, bearer(WRITE[:-1])):
            answer = guarded.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, answer.status_code)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json"


def test_what_is_public_holds_no_data(guarded: httpx.Client, store: SessionStore) -> None:
    store.save("canary-1234", {"user_prompt": "canary-1234", "topic": "canary-1234"})
    for path in PUBLIC:
        answer = guarded.get(path)
        assert answer.status_code == 200
        assert "canary" not in answer.text
        assert "user_prompt" not in answer.text
    assert guarded.post("/").status_code == 401


def test_a_read_token_only_reads(guarded: httpx.Client) -> None:
    assert guarded.get("/api/sessions/t", headers=bearer(READ)).status_code == 200
    for method in ("DELETE", "POST", "PUT", "PATCH"):
        assert guarded.request(method, "/api/sessions/t", headers=bearer(READ)).status_code == 403
    assert guarded.delete("/api/sessions/t", headers=bearer(WRITE)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.nip.io", ""])
def test_foreign_hosts_are_refused(store: SessionStore, host: str) -> None:
    with served(store) as client:
        for path in ("/", "/api/sessions", "/healthz"):
            assert client.get(path, headers={"Host": host}).status_code == 400


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1", "[::1]:99", "10.1.2.3", "sessions.example.com", "SESSIONS.example.com.:443"]
)
def test_known_hosts_are_served(store: SessionStore, host: str) -> None:
    with served(store, allowed_hosts=["sessions.example.com"]) as client:
        assert client.get("/api/sessions", headers={"Host": host}).status_code == 200


def test_pages_of_other_origins_are_refused(store: SessionStore) -> None:
    with served(store, allowed_hosts=["sessions.example.com"]) as client:
        own = str(client.base_url).rstrip("/")
        for path in ("/api/sessions", "/api/sessions/events", "/fragments/table"):
            for origin in ("https://evil.example", "null", "http://localhost:1"):
                assert client.get(path, headers={"Origin": origin}).status_code == 403
        assert client.delete("/api/sessions/x", headers={"Origin": "https://evil.example"}).status_code == 403
        assert client.get("/api/sessions", headers={"Origin": own}).status_code == 200
        assert client.get("/api/sessions", headers={"Origin": "https://sessions.example.com"}).status_code == 200
        assert "access-control-allow-origin" not in client.get("/api/sessions").headers


def test_every_answer_says_what_a_browser_may_do(store: SessionStore) -> None:
    with served(store) as client:
        for path in ("/", "/static/app.js", "/api/sessions", "/api/nothing", "/api/sessions?nope=1"):
            headers = client.get(path).headers
            policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
            assert headers["x-content-type-options"] == "nosniff"
        assert client.get("/api/sessions").headers["cache-control"] == "no-store"
        page = client.get("/").text
        assert "style=" not in page
        assert " on" + "click" not in page
        assert "http" not in page.replace("http-equiv", "")


def test_large_bodies_and_queries_are_refused(store: SessionStore) -> None:
    with served(store) as client:
        assert client.post("/api/sessions", content=b"x" * (3 << 20)).status_code == 413
        assert client.post("/api/sessions", content=iter([b"x" * (1 << 20)] * 3)).status_code in (405, 413)
        assert client.get("/api/sessions?topic=" + "x" * 50_000).status_code == 414
        deep = "[" * 7000 + "]" * 7000
        assert client.get("/api/sessions", params={"any_of": deep}).status_code == 422
        assert client.get("/api/sessions", params={"metadata__has": deep}).status_code in (200, 422)
        assert client.get("/healthz").status_code == 200


async def test_guessing_is_slowed_down_and_does_not_lock_out() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await Response("in")(scope, receive, send)

    settings = replace(Settings.make(WRITE, environ={}), limits=Limits(failures=0.5))
    transport = httpx.ASGITransport(Guard(app, settings))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answers = [(await client.get("/api", headers=bearer(f"guess-{number}"))).status_code for number in range(7)]
        assert answers == [401] * 5 + [429] * 2
        assert (await client.get("/api", headers=bearer(WRITE))).status_code == 200


def test_buckets_fill_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    bucket = Buckets(rate=2, burst=3)
    assert [bucket.allows("a") for _ in range(4)] == [True, True, True, False]
    assert bucket.allows("b")
    now[0] = 0.6
    assert [bucket.allows("a"), bucket.allows("a")] == [True, False]


def test_the_log_has_no_secrets(guarded: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        guarded.get("/api/sessions?user_id=private-person", headers=bearer(READ))
        guarded.get("/api/sessions/a%0Ab", headers=bearer(READ))
    access = [record.getMessage() for record in caplog.records if record.name == "langgraph_session_store.access"]
    assert any("/api/sessions" in line and "200" in line for line in access)
    assert not any("private-person" in line or READ in line or "\n" in line for line in access)


def test_without_a_token_only_the_loopback_is_bound(store: SessionStore) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.4", socket.gethostname()):
        with pytest.raises(ConfigError, match="SESSION_STORE_TOKEN"):
            serve(store, host=host)
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("example.com")


def test_a_port_that_is_taken(store: SessionStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen"):
        serve(store, port=taken.getsockname()[1])


async def test_without_a_token_other_machines_are_refused_whoever_serves(store: SessionStore) -> None:
    transport = httpx.ASGITransport(create_app(store), client=("203.0.113.9", 5))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        answer = await client.get("/api/sessions")
    assert answer.status_code == 403


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_without_a_token_what_a_proxy_brings_is_refused(store: SessionStore, name: str) -> None:
    with served(store) as client:
        assert client.get("/api/sessions").status_code == 200
        assert client.get("/api/sessions", headers={name: "127.0.0.1"}).status_code == 403
    with served(store, token=WRITE) as client:
        assert client.get("/api/sessions", headers={name: "127.0.0.1", **bearer(WRITE)}).status_code == 200


def test_tokens_come_from_the_environment_or_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    found = Settings.make(
        environ={"SESSION_STORE_TOKEN_FILE": str(tmp_path / "token"), "SESSION_STORE_READ_TOKEN": "r"}
    )
    assert (found.scope_of("from-a-file"), found.scope_of("r"), found.scope_of("x")) == ("write", "read", None)
    assert "from-a-file" not in repr(found)
    (tmp_path / "token").write_text("\n")
    for environ in (
        {"SESSION_STORE_TOKEN_FILE": str(tmp_path / "token")},
        {"SESSION_STORE_TOKEN_FILE": str(tmp_path / "none")},
        {"SESSION_STORE_TOKEN": "same", "SESSION_STORE_READ_TOKEN": "same"},
    ):
        with pytest.raises(ConfigError):
            Settings.make(environ=environ)
    assert not Settings.make(environ={"SESSION_STORE_TOKEN": "  "}).guarded
