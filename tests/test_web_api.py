"""The REST API over real sockets and a real Postgres."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import psycopg
import pyarrow.parquet as pq
import pytest
from web_serving import problem_rows, running, served

from langgraph_session_store import Column, SessionRecord
from langgraph_session_store.store import AsyncSessionStore, SessionStore
from langgraph_session_store.web import create_app, reads
from langgraph_session_store.web.ops import spool_state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

LARGE = {"user_prompt", "problem_description", "problem_tests", "code", "error", "metadata", "rejected"}


@pytest.fixture
def api(store: SessionStore) -> Iterator[httpx.Client]:
    store.save_many(problem_rows(120))
    with served(store) as client:
        yield client


def is_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    return content


def test_the_documented_query(api: httpx.Client) -> None:
    answer = api.get("/api/sessions?topic=arrays&difficulty=easy&tests_passed=true&limit=20")
    assert answer.status_code == 200
    page = answer.json()
    assert page["count"] == len(page["sessions"]) > 0
    assert all(
        (row["topic"], row["difficulty"], row["tests_passed"]) == ("arrays", "easy", True) for row in page["sessions"]
    )
    assert "total" not in page


def test_pages_hold_50_at_most_100_and_no_large_fields(api: httpx.Client) -> None:
    page = api.get("/api/sessions").json()
    assert page["count"] == 50
    assert not LARGE & set(page["sessions"][0])
    assert api.get("/api/sessions?limit=100").json()["count"] == 100
    assert "100" in is_problem(api.get("/api/sessions?limit=101"), 422)["detail"]
    for wrong in ("0", "-1", "x", "1.5", ""):
        is_problem(api.get("/api/sessions", params={"limit": wrong}), 422)


def test_fields_are_what_is_asked_for(api: httpx.Client) -> None:
    (row,) = api.get("/api/sessions?fields=thread_id,code&limit=1").json()["sessions"]
    assert list(row) == ["thread_id", "code"]


def test_a_cursor_walks_over_every_row_once(api: httpx.Client) -> None:
    seen, cursor = [], None
    while True:
        params = {"limit": "17", "order_by": "-code_attempts,topic"} | ({"cursor": cursor} if cursor else {})
        page = api.get("/api/sessions", params=params).json()
        seen += [(-row["code_attempts"], row["topic"], row["thread_id"]) for row in page["sessions"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert len({thread for *_, thread in seen}) == len(seen) == 120
    assert [key[:2] for key in seen] == sorted(key[:2] for key in seen)


def test_the_next_page_is_a_link(api: httpx.Client) -> None:
    first = api.get("/api/sessions?topic=arrays&limit=30")
    second = api.get(f"/api/sessions{first.links['next']['url']}")
    assert {row["thread_id"] for row in first.json()["sessions"] + second.json()["sessions"]} == {
        f"t-{number:04d}" for number in range(0, 120, 3)
    }
    assert "next" not in second.links


def test_a_cursor_belongs_to_its_filter(api: httpx.Client) -> None:
    cursor = api.get("/api/sessions?limit=5").json()["next_cursor"]
    is_problem(api.get("/api/sessions", params={"limit": "5", "topic": "arrays", "cursor": cursor}), 422)
    is_problem(api.get("/api/sessions?cursor=nonsense"), 422)


def test_a_cursor_that_looks_like_one_names_no_page(api: httpx.Client) -> None:
    cursor = api.get("/api/sessions?limit=5").json()["next_cursor"]
    for forged in (cursor[:-1], f"{cursor}A", cursor[:30] + "AAAA" + cursor[34:]):
        assert "cursor" in is_problem(api.get("/api/sessions", params={"limit": "5", "cursor": forged}), 404)["detail"]


def test_counts_only_when_asked(api: httpx.Client) -> None:
    assert api.get("/api/sessions?count=exact&limit=1&topic=graphs").json()["total"] == 40
    is_problem(api.get("/api/sessions?count=about"), 422)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("topc=arrays", "topic"),
        ("topic__like=a", "contains"),
        ("order_by=nothing", "created_at"),
        ("fields=secret", "thread_id"),
        ("code_attempts=many", "number"),
        ("tests_passed=perhaps", "true"),
        ("created_at__gte=yesterday", "created_at__gte"),
        ("topic=a&topic=b", "topic__in"),
        ("any_of=[[[", "any_of"),
        ("limit=1&limit=2", "limit"),
        ("metadata__a__gte=%00", "metadata"),
    ],
)
def test_what_cannot_be_understood_is_named(api: httpx.Client, query: str, named: str) -> None:
    assert named in is_problem(api.get(f"/api/sessions?{query}"), 422)["detail"]


def test_unknown_fields_come_with_the_valid_ones(api: httpx.Client) -> None:
    for route in ("/api/sessions", "/api/sessions/analytics", "/api/sessions/export.csv"):
        assert "topic" in is_problem(api.get(f"{route}?nope=1"), 422)["valid"]


def test_other_filters(api: httpx.Client) -> None:
    def threads(**params: str) -> int:
        return int(api.get("/api/sessions", params={"count": "exact", "limit": "1", **params}).json()["total"])

    assert threads(topic__in="arrays,graphs") == 80
    assert threads(code_attempts__gte="4") == 48
    assert threads(any_of='[{"topic": "arrays"}, {"code_attempts__gte": 5}]') == 56
    assert threads(user_prompt__contains="function 11") == 11
    assert threads(finished_at__isnull="true") == 120


def test_a_session_whole_and_flat(api: httpx.Client) -> None:
    row = api.get("/api/sessions/t-0001").json()
    assert row["code"].startswith("def f")
    assert row["problem_tests"] == ["assert f(1) == 2"]
    assert row["metadata"] is None


def test_an_etag_spares_the_body(api: httpx.Client, store: SessionStore) -> None:
    first = api.get("/api/sessions/t-0001")
    again = api.get("/api/sessions/t-0001", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    store.update("t-0001", code_attempts=9)
    changed = api.get("/api/sessions/t-0001", headers={"If-None-Match": first.headers["etag"]})
    assert changed.json()["code_attempts"] == 9


IDS = [
    "a/b",
    "a%2Fb",
    "..",
    "../../etc/passwd",
    "💥 emoji",
    "x" * 300,
    "a?b=c&d#e",
    "a b",
    "a+b",
    "%",
    "%00",
    "ä/versions/x",
    "'; --",
]


@pytest.mark.parametrize("thread_id", IDS)
def test_ids_of_all_kinds(store: SessionStore, api: httpx.Client, thread_id: str) -> None:
    store.save(thread_id, {"code": "1"})
    address = quote(thread_id, safe="").replace(".", "%2E")
    assert api.get(f"/api/sessions/{address}").json()["code"] == "1"
    assert api.get("/api/sessions", params={"thread_id": thread_id}).json()["count"] == 1
    assert api.get(f"/api/sessions/{address}/versions").json()["versions"][0]["values"]["code"] == "1"
    assert api.delete(f"/api/sessions/{address}").json()["deleted"] is True
    is_problem(api.get(f"/api/sessions/{address}"), 404)
    is_problem(api.delete(f"/api/sessions/{address}"), 404)
    is_problem(api.get(f"/api/sessions/{address}/versions"), 404)


def test_an_id_that_collides_with_a_route_is_found_by_filter(store: SessionStore, api: httpx.Client) -> None:
    store.save("analytics", {"code": "1"})
    assert "total" in api.get("/api/sessions/analytics").json()
    assert api.get("/api/sessions?thread_id=analytics").json()["count"] == 1


def test_versions_say_what_changed(store: SessionStore, api: httpx.Client) -> None:
    store.save("v", {"code": "1", "tests_passed": False})
    store.save("v", {"code": "2", "tests_passed": True})
    newest, oldest = api.get("/api/sessions/v/versions").json()["versions"]
    assert (newest["version"], oldest["version"]) == (2, 1)
    assert newest["changes"] == {"code": ["1", "2"], "tests_passed": [False, True]}


def test_numbers(api: httpx.Client) -> None:
    found = api.get("/api/sessions/analytics?group_by=topic&bucket=day").json()
    assert found["total"] == 120
    assert found["success_rate"] == 0.75
    assert found["by_status"] == {"completed": 90, "failed": 30}
    assert {group["key"]["topic"]: group["total"] for group in found["groups"]} == dict.fromkeys(
        ("arrays", "graphs", "strings"), 40
    )
    assert sum(part["total"] for part in found["series"]) == 120
    assert api.get("/api/sessions/analytics?topic=arrays").json()["total"] == 40
    is_problem(api.get("/api/sessions/analytics?bucket=year"), 422)


def test_numbers_about_too_many_groups_are_refused(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "_FEW", 10)  # in a thread
    assert len(api.get("/api/sessions/analytics?group_by=thread_id").json()["groups"]) == 120
    monkeypatch.setattr(reads, "MOST_ROWS", 100)
    assert "100 rows" in is_problem(api.get("/api/sessions/analytics?group_by=thread_id"), 422)["detail"]


def test_csv_cells_are_no_formulas(store: SessionStore, api: httpx.Client) -> None:
    for number, evil in enumerate(("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")):
        store.save(f"evil-{number}", {"user_prompt": evil})
    answer = api.get("/api/sessions/export.csv?thread_id__startswith=evil")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 6
    assert all(row["user_prompt"].startswith("'") for row in rows)


def test_exports_hold_every_row(api: httpx.Client) -> None:
    lines = api.get("/api/sessions/export.ndjson?order_by=thread_id").text.splitlines()
    assert [json.loads(line)["thread_id"] for line in lines] == [f"t-{number:04d}" for number in range(120)]
    table = pq.read_table(
        io.BytesIO(api.get("/api/sessions/export.parquet?topic=arrays&fields=thread_id,code").content)
    )
    assert (table.num_rows, table.column_names) == (40, ["thread_id", "code"])
    assert api.get("/api/sessions/export.csv?topic=none").text.startswith("id,created_at")
    is_problem(api.get("/api/sessions/export.xlsx"), 404)


def test_a_file_has_a_plain_name(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, table="sitzung_\u8868") as store, served(store) as client:
        store.save("t", {"code": "1"})
        answer = client.get("/api/sessions/export.csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="sitzung__.csv"'


def test_answers_are_squeezed(api: httpx.Client) -> None:
    assert api.get("/api/sessions?limit=100").headers["content-encoding"] == "gzip"


def test_values_that_json_has_no_number_for(store: SessionStore, api: httpx.Client) -> None:
    store.save("odd", {"problem_tests": [2**70, float("nan"), "\ud800", {"__proto__": 1}]})
    tests = api.get("/api/sessions/odd").json()["problem_tests"]
    assert tests[0] == 2**70
    assert api.get("/api/sessions?fields=problem_tests&thread_id=odd").json()["sessions"] == [{"problem_tests": tests}]


def test_methods_and_paths_that_are_not_there(api: httpx.Client) -> None:
    assert is_problem(api.post("/api/sessions"), 405)
    assert api.post("/api/sessions").headers["allow"] == "GET"
    assert api.post("/api/sessions/t").headers["allow"] == "GET, DELETE"
    assert api.post("/api/sessions/t/versions").headers["allow"] == "GET"
    is_problem(api.get("/api/nothing"), 404)
    is_problem(api.request("BREW", "/api/sessions"), 405)


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/metrics", "/api/schema", "/api/sessions?limit=100", "/api/nothing"]
)
def test_head_answers_what_get_would_without_the_body(api: httpx.Client, path: str) -> None:
    whole, head = api.get(path), api.head(path)
    assert head.status_code == whole.status_code
    assert head.content == b""
    same = ("content-type", "content-encoding", "link", "content-security-policy", "cache-control", "vary")
    assert {name: head.headers.get(name) for name in same} == {name: whole.headers.get(name) for name in same}
    assert path == "/metrics" or head.headers["content-length"] == whole.headers["content-length"]


def test_head_knows_what_the_client_has(store: SessionStore, api: httpx.Client) -> None:
    store.save("known", {"code": "1"})
    etag = api.get("/api/sessions/known").headers["etag"]
    assert api.head("/api/sessions/known").headers["etag"] == etag
    assert api.head("/api/sessions/known", headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("path", ["/api/sessions/events", "/api/sessions/export.csv", "/api/sessions/export.parquet"])
def test_head_of_what_is_streamed_ends(api: httpx.Client, path: str) -> None:
    head = api.head(path)
    assert (head.status_code, head.content) == (200, b"")
    with api.stream("GET", path) as whole:
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert api.get("/healthz").status_code == 200, "the connection can be used again"
    until = time.monotonic() + 60
    while "session_store_streams 0.0" not in api.get("/metrics").text and time.monotonic() < until:
        time.sleep(0.1)
    assert "session_store_streams 0.0" in api.get("/metrics").text


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Leave cycles alone: what is let go of must not need to be collected."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_an_export_that_nobody_reads_to_its_end_leaves_room_for_the_next(store: SessionStore) -> None:
    store.save_many(problem_rows(1_200))  # more than is encoded at once
    with served(store) as client:
        for _ in range(3 * reads.EXPORTS):
            assert client.head("/api/sessions/export.ndjson").status_code == 200
            with client.stream("GET", "/api/sessions/export.ndjson") as answer:
                next(answer.iter_raw(10))
        assert len(client.get("/api/sessions/export.ndjson").text.splitlines()) == 1_200


def test_the_schema_names_every_field_and_operator(api: httpx.Client) -> None:
    fields = {field["name"]: field for field in api.get("/api/schema").json()["fields"]}
    assert fields["code_attempts"]["type"] == "integer"
    assert "gte" in fields["code_attempts"]["ops"]
    assert fields["code"]["kind"] == "versioned"


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class TicketSession(SessionRecord, table="tickets"):
    """One support conversation."""

    question: str | None = None
    mood: Annotated[Mood | None, Column(index=True)] = None
    priority: int = 1
    score: float | None = None
    sources: list[dict[str, str]] | None = None
    due: datetime | None = None


def test_openapi_has_the_types_of_the_record(dsn: str, schema: str) -> None:
    with SessionStore(dsn, schema=schema, record=TicketSession) as store:
        store.save(
            "t", {"question": "why", "mood": "bad", "sources": [{"a": "b"}], "due": datetime(2026, 1, 1, tzinfo=UTC)}
        )
        with served(store) as client:
            document = client.get("/openapi.json").json()
            assert client.get("/api/sessions?mood=bad&priority__lte=1").json()["count"] == 1
            assert client.get("/api/sessions/t").json()["sources"] == [{"a": "b"}]
            fields = {field["name"]: field for field in client.get("/api/schema").json()["fields"]}
            (listed,) = client.get("/api/sessions").json()["sessions"]
            assert listed["mood"] == "bad"  # text, but of a closed set
            assert "question" not in listed
            assert ">bad<" in client.get("/fragments/table").text
    assert document["openapi"].startswith("3.1")
    properties = document["components"]["schemas"]["TicketSession"]["properties"]

    def types(name: str) -> list[Any]:
        return [part.get("type", part.get("$ref")) for part in properties[name].get("anyOf", [properties[name]])]

    assert types("thread_id") == ["string"]
    assert types("priority") == ["integer", "null"]
    assert types("score") == ["number", "null"]
    assert types("sources") == ["array", "null"]
    assert properties["due"]["anyOf"][0]["format"] == "date-time"
    parameters = {part["name"]: part for part in document["paths"]["/api/sessions"]["get"]["parameters"]}
    assert "priority__gte" in parameters
    assert "topic" not in parameters
    # closed sets are named, and what older rows hold is still allowed
    assert properties["mood"]["anyOf"][0]["enum"] == ["good", "bad"]
    assert types("mood") == ["string", "string", "null"]
    assert "failed" in properties["workflow_status"]["anyOf"][0]["enum"]
    assert parameters["mood"]["schema"]["anyOf"][0] == {"enum": ["good", "bad"]}
    assert fields["mood"]["values"] == ["good", "bad"]


def test_openapi_has_paging_and_the_stream(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    parameters = {part["name"]: part for part in paths["/api/sessions"]["get"]["parameters"]}
    cursor = api.get("/api/sessions?limit=5").json()["next_cursor"]
    assert re.fullmatch(parameters["cursor"]["schema"]["pattern"], cursor)
    stream = paths["/api/sessions/events"]["get"]
    assert list(stream["responses"]["200"]["content"]) == ["text/event-stream"]
    (last,) = stream["parameters"]
    assert (last["name"], last["in"], last["required"]) == ("Last-Event-ID", "header", False)


async def test_an_async_store_serves_as_well(dsn: str, schema: str) -> None:
    async with AsyncSessionStore(dsn, schema=schema) as store:
        await store.save("t", {"code": "1"})
    with served(AsyncSessionStore(dsn, schema=schema)) as client:
        assert client.get("/api/sessions/t").json()["code"] == "1"


def test_what_the_recorder_still_holds_is_seen(store: SessionStore) -> None:
    class Slow:
        pending = True

        def wait(self, timeout: float) -> bool:
            if self.pending:
                self.pending = False
                store.save("late", {"code": "1"})
            return True

    with served(store) as client:
        store.add_backlog(Slow())  # joins behind create_app
        assert client.get("/api/sessions/late").json()["code"] == "1"


def test_reads_cannot_write_and_end_in_time(store: SessionStore, dsn: str, schema: str) -> None:
    store.save("t", {"code": "1"})
    with psycopg.connect(
        dsn, autocommit=True
    ) as conn:  # a view that writes and one that is slow stand in for the table
        conn.execute(f"SET search_path = {schema}")
        conn.execute("ALTER TABLE session_states RENAME TO kept")
        conn.execute("CREATE FUNCTION sly() RETURNS int LANGUAGE sql AS $$ DELETE FROM kept; SELECT 1 $$")
        conn.execute("CREATE VIEW session_states AS SELECT kept.* FROM kept WHERE pg_sleep(30)::text = ''")
        with served(SessionStore(dsn, schema=schema, setup=False), statement_timeout=0.3) as client:
            is_problem(client.get("/api/sessions"), 503)
        conn.execute(f"CREATE OR REPLACE VIEW session_states AS SELECT kept.* FROM kept WHERE {schema}.sly() = 1")
        with served(SessionStore(dsn, schema=schema, setup=False)) as client:
            is_problem(client.get("/api/sessions"), 503)
        assert conn.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_a_database_that_is_down_is_a_503_until_it_is_back(server: Any) -> None:
    with SessionStore(server.dsn) as store, served(store) as client:
        assert client.get("/readyz").json()["status"] == "ok"
        store.save("t", {"code": "1"})
        assert client.get("/api/sessions/t").status_code == 200
        server.stop()
        for route in (
            "/api/sessions",
            "/api/sessions/t",
            "/api/sessions/analytics",
            "/api/sessions/export.csv",
            "/fragments/table",
            "/fragments/charts",
        ):
            answer = client.get(route)
            assert "retry-after" in answer.headers
            assert "password" not in is_problem(answer, 503)["detail"]
        is_problem(client.delete("/api/sessions/t"), 503)
        assert client.get("/healthz").status_code == 200
        assert "session_store_up 0.0" in client.get("/metrics").text
        deadline = datetime.now(UTC) + timedelta(seconds=120)
        while client.get("/readyz").status_code == 200:
            assert datetime.now(UTC) < deadline
        is_problem(client.get("/readyz"), 503)
        server.start()
        while client.get("/api/sessions/t").status_code != 200:
            assert datetime.now(UTC) < deadline + timedelta(seconds=120)


def test_metrics(api: httpx.Client, store: SessionStore, recorder: Any) -> None:
    assert recorder
    api.get("/api/sessions")
    text = api.get("/metrics").text
    assert 'session_store_sessions{status="completed"} 90.0' in text
    assert "session_store_spool_bytes 0.0" in text
    assert "session_store_recorder_accepted_total" in text
    assert "session_store_query_seconds_count" in text
    assert "session_store_up 1.0" in text


def test_a_spool_whose_writer_is_done_holds_nothing(tmp_path: Path) -> None:
    for name in ("alive/1", "alive/2", "dead/1"):
        path = (tmp_path / name).with_suffix(".seg")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"frame")
    assert spool_state(tmp_path, up=False)[0] == 15
    assert spool_state(tmp_path, up=True)[0] == 5  # of a process's last file nobody knows yet
    old = time.time() - 100
    os.utime(tmp_path / "dead/1.seg", (old, old))
    size, age = spool_state(tmp_path, up=True)
    assert size == 10
    assert age >= 100


def test_behind_a_prefix(store: SessionStore) -> None:
    from fastapi import FastAPI

    store.save("t", {"code": "1"})
    outer = FastAPI()
    outer.mount("/inner", create_app(store))
    with running(outer) as url:
        import httpx

        assert httpx.get(f"{url}/inner/api/sessions/t").json()["code"] == "1"
        assert httpx.get(f"{url}/inner/").status_code == 200
    with served(store, root_path="/kept") as client:  # a proxy that takes the prefix away, and one that leaves it
        assert client.get("/api/sessions/t").json()["code"] == "1"
        assert client.get("/kept/api/sessions/t").json()["code"] == "1"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/kept"}]
