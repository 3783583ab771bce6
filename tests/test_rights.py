"""The SQL of docs/rights.md, run: what each role may do, and may not; whom row-level security shows what."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from psycopg.conninfo import make_conninfo
from test_original_table import State

from langgraph_session_store import Column, ProblemSession, SessionRecorder, SessionStore, backfill
from langgraph_session_store.errors import PrivilegeError
from langgraph_session_store.testing import problem_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rights.md").read_text("utf-8")
ROLES, GRANTS, POLICIES, INVOKER, NO_INVOKER = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def fill(store: SessionStore) -> Any:
    graph = problem_graph(InMemorySaver())
    graph.invoke({"topic": "graphs"}, {"configurable": {"thread_id": "many"}})
    return backfill(store, graph=graph)


READS: dict[str, Callable[[SessionStore], Any]] = {
    "get": lambda store: [store.get(thread) for thread in ("a", "b", "nobody")],
    "query": lambda store: list(store.query()),
    "count": lambda store: store.count(),
    "analytics": lambda store: store.analytics(group_by="user_id").total,
    "versions": lambda store: [*store.versions("a"), *store.versions("b")],
    "iter": lambda store: [session["thread_id"] for session in store.iter(order_by="thread_id")],
    "to_arrow": lambda store: store.to_arrow(fields=["thread_id"], order_by="thread_id").to_pylist(),
    "changes": lambda store: next(store.changes(since=store._now() - timedelta(days=1)))["thread_id"],
}
WRITES: dict[str, Callable[[SessionStore], Any]] = {
    "save": lambda store: store.save("a", {"topic": "graphs", "code": "new"}),
    "save_many": lambda store: store.save_many([{"thread_id": "many", "code": "x"}]),
    "update": lambda store: store.update("a", code="better"),
    "link_run": lambda store: store.link_run("a", "run"),
    "mark_abandoned": lambda store: store.mark_abandoned(timedelta(0)),
    "backfill": fill,
}
REMOVALS: dict[str, Callable[[SessionStore], Any]] = {
    "delete": lambda store: store.delete("a"),
    "erase": lambda store: store.erase(topic="arrays"),
    "purge": lambda store: store.purge(older_than=timedelta(0)),
}


@dataclass
class House:
    """The page's roles and schema, under names of the test's own."""

    dsn: str
    tag: str
    admin: psycopg.Connection[Any]

    @property
    def schema(self) -> str:
        return f"t_{self.tag}"

    def sql(self, text: str) -> str:
        text = re.sub(r"\bsessions_(\w+)", rf"{self.tag}_\1", text)
        return re.sub(r"\bsessions\b", self.schema, text).replace("@example.com", f"@{self.tag}")

    def run(self, block: str) -> None:
        self.admin.execute(self.sql(block).encode())

    def store(self, role: str, *, setup: bool = False, **options: Any) -> SessionStore:
        asking = make_conninfo(self.dsn, options=f"-c role={self.sql(role)}")
        return SessionStore(asking, schema=self.schema, setup=setup, **options)

    def close(self) -> None:
        self.admin.execute(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE".encode())
        named = (
            "SELECT format('DROP OWNED BY %%I; DROP ROLE %%I', rolname, rolname) FROM pg_roles WHERE rolname LIKE %s"
        )
        for (text,) in self.admin.execute(named, [f"%{self.tag}%"]).fetchall():
            self.admin.execute(text.encode())


@pytest.fixture
def house(dsn: str) -> Iterator[House]:
    with psycopg.connect(dsn, autocommit=True) as admin:
        house = House(dsn, f"r{uuid.uuid4().hex[:12]}", admin)
        try:
            house.run(ROLES)
            with house.store("sessions_migrator", setup=True) as migrator:
                assert migrator.setup().done
            house.run(GRANTS)
            yield house
        finally:
            house.close()


@pytest.fixture
def filled(house: House) -> House:
    """Two users' sessions, and one of nobody's."""
    with house.store("sessions_writer") as writer:
        for thread, user in (
            ("a", house.sql("ada@example.com")),
            ("b", house.sql("bob@example.com")),
            ("nobody", None),
        ):
            writer.save(thread, {"topic": "arrays", "code": thread}, user_id=user)
    return house


# --- roles ---


def test_the_writer_records_runs_and_may_not_create(house: House, tmp_path: Path) -> None:
    graph = StateGraph(State)
    graph.add_node("solve", lambda _: {"code": "done", "tests_passed": True})
    graph.add_edge(START, "solve")
    graph.add_edge("solve", END)
    for setup in (False, True):  # with it nothing is missing, so that nothing is made
        with house.store("sessions_writer", setup=setup) as store:
            with SessionRecorder(store, spool_dir=tmp_path / str(setup)) as recorder:
                config = {"configurable": {"thread_id": f"t-{setup}"}}
                recorder.attach(graph.compile()).invoke({"topic": "trees"}, config)
                report = recorder.flush(60)
            assert (report.pending, recorder.stats().quarantined) == (0, 0)
            assert store.get(f"t-{setup}")["workflow_status"] == "completed"
            assert len(store.versions(f"t-{setup}")) == 1

    class Grown(ProblemSession, table="session_states"):
        more: Annotated[str | None, Column()] = None

    with house.store("sessions_writer", setup=True, record=Grown) as store, pytest.raises(PrivilegeError):
        store.setup()


@pytest.mark.parametrize("call", [*READS, *WRITES, *REMOVALS])
def test_each_role_may_do_what_the_page_says(filled: House, call: str) -> None:
    allowed = {"sessions_reader": READS, "sessions_writer": READS | WRITES, "sessions_keeper": READS | REMOVALS}
    line = next(line for line in PAGE.splitlines() if f"`{call}`" in line)
    assert line.startswith("|"), f"the page's table does not name {call}"
    for role in sorted(allowed, key=lambda role: call in allowed[role]):  # while there is something to be done
        with filled.store(role) as store:
            if call in allowed[role]:
                allowed[role][call](store)
            else:
                assert role not in line
                with pytest.raises(PrivilegeError):
                    (WRITES | REMOVALS)[call](store)


def test_what_the_keeper_removed_the_writer_does_not_bring_back(filled: House) -> None:
    with filled.store("sessions_writer") as writer, filled.store("sessions_keeper") as keeper:
        early = writer._event("a", {"code": "early"}, {})
        assert keeper.delete("a")
        assert writer.save_many([early]) == 0
        assert writer.get("a") is None


def test_the_reader_reads_the_view(filled: House) -> None:
    count = f"SELECT count(*) FROM {filled.schema}.session_states_summary".encode()
    with filled.admin.transaction():
        filled.admin.execute(f"SET LOCAL ROLE {filled.sql('sessions_reader')}".encode())
        assert filled.admin.execute(count).fetchone() == (3,)


# --- row-level security ---


@pytest.fixture
def guarded(filled: House) -> House:
    filled.run(POLICIES)
    filled.run(INVOKER if filled.admin.info.server_version >= 150000 else NO_INVOKER)
    return filled


def seen(house: House, role: str) -> dict[str, Any]:
    with house.store(role) as store:
        return {call: read(store) for call, read in READS.items()}


def test_users_see_their_own_sessions_alone(guarded: House) -> None:
    ada = seen(guarded, "ada@example.com")
    assert [session and session["thread_id"] for session in ada["get"]] == ["a", None, None]
    assert [session["thread_id"] for session in ada["query"]] == ada["iter"] == ["a"]
    assert (ada["count"], ada["analytics"]) == (1, 1)
    assert [version.values["code"] for version in ada["versions"]] == ["a"]
    assert (ada["to_arrow"], ada["changes"]) == ([{"thread_id": "a"}], "a")
    assert seen(guarded, "bob@example.com")["iter"] == ["b"]
    with guarded.store("sessions_reader") as store:
        assert (store.count(), store.versions("a")) == (0, [])


def test_exports_hold_what_the_user_sees(guarded: House, tmp_path: Path) -> None:
    with guarded.store("ada@example.com") as store:
        for name in ("all.csv", "all.ndjson", "all.parquet"):
            assert store.export(tmp_path / name) == 1


def test_writer_and_keeper_still_see_all(guarded: House) -> None:
    with guarded.store("sessions_writer") as writer:
        for call in WRITES.values():
            assert call(writer) is not None
        assert writer.count() == 4
        assert len(writer.versions("b")) == 1
    with guarded.store("sessions_keeper") as keeper:
        assert keeper.delete("b")
        assert keeper.versions("b") == []


def rows_of_view(house: House, role: str) -> list[Any]:
    with house.admin.transaction():
        house.admin.execute(f"""SET LOCAL ROLE "{house.sql(role)}" """.encode())
        return house.admin.execute(f"SELECT thread_id FROM {house.schema}.session_states_summary".encode()).fetchall()


def test_the_view_shows_no_more_than_the_table_also_when_it_grew(guarded: House) -> None:
    if guarded.admin.info.server_version < 150000:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows_of_view(guarded, "ada@example.com")
        return
    assert rows_of_view(guarded, "ada@example.com") == [("a",)]

    class Grown(ProblemSession, table="session_states"):
        rating: int | None = None

    with guarded.store("sessions_migrator", setup=True, record=Grown) as migrator:
        assert set(migrator.setup().done) == {"lock_summary", "add_columns", "create_summary"}
    assert rows_of_view(guarded, "ada@example.com") == [("a",)]
    assert rows_of_view(guarded, "bob@example.com") == [("b",)]
