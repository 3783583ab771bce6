"""Whole results out of both stores: Arrow, pandas and files."""

from __future__ import annotations

import gc
import io
import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from langgraph_session_store import AsyncSessionStore, FilterError, SessionStore, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [
    {"thread_id": f"t{n}", "topic": ["lists", "graphs"][n % 2], "code_attempts": n, "problem_tests": [n]}
    for n in range(1_200)
]


@pytest.fixture
def filled(store: SessionStore) -> SessionStore:
    assert store.save_many(ROWS) == len(ROWS)
    return store


def test_arrow_and_pandas_of_what_matches(filled: SessionStore) -> None:
    table = filled.to_arrow(topic="lists", fields="thread_id,code_attempts", order_by="code_attempts")
    assert table.column_names == ["thread_id", "code_attempts"]
    assert table["code_attempts"].to_pylist() == list(range(0, 1_200, 2))
    frame = filled.to_pandas(code_attempts__lt=3, order_by="code_attempts")
    assert str(frame["code_attempts"].dtype) == "Int64"
    assert list(frame["problem_tests"]) == [[0], [1], [2]]
    assert filled.to_pandas(topic="none", arrow=True).empty


@pytest.mark.parametrize("collecting", [True, False])
def test_the_garbage_collector_is_left_as_it_was(filled: SessionStore, collecting: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        assert len(filled.to_pandas(fields="problem_tests")) == len(ROWS)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if was else gc.disable)()


def test_batches_are_a_stream(filled: SessionStore) -> None:
    with filled.batches() as batches:
        assert sum(batch.num_rows for batch in batches) == len(ROWS)


@pytest.mark.parametrize("name", ["x.csv", "x.ndjson", "x.parquet"])
def test_export(name: str, filled: SessionStore, tmp_path: Path) -> None:
    told: list[int] = []
    path = tmp_path / name
    wanted = {"fields": ["thread_id", "topic"], "order_by": "code_attempts", "topic": "graphs"}
    assert filled.export(path, progress=told.append, **wanted) == 600
    assert told[-1] == 600
    if name.endswith("parquet"):
        assert pq.read_table(path)["thread_id"].to_pylist()[:2] == ["t1", "t3"]
    else:
        lines = path.read_text().splitlines()
        assert "t1" in (lines[1] if name.endswith("csv") else lines[0])


async def test_the_asynchronous_twin(filled: SessionStore, dsn: str, schema: str) -> None:
    async with AsyncSessionStore(dsn, schema=schema) as store:
        assert (await store.to_arrow(topic="lists")).num_rows == 600
        assert len(await store.to_pandas(fields="thread_id")) == 1_200
        out = io.BytesIO()
        assert await store.export(out, "ndjson", code_attempts__lt=2, fields="thread_id") == 2
        assert {json.loads(line)["thread_id"] for line in out.getvalue().splitlines()} == {"t0", "t1"}


def test_errors_are_of_our_tree(filled: SessionStore, tmp_path: Path) -> None:
    with pytest.raises(FilterError, match="topic"):
        filled.to_arrow(topik="lists")
    with pytest.raises(FilterError, match="topic"):
        filled.export(tmp_path / "x.csv", topik="lists")
    assert not list(tmp_path.iterdir())
    with pytest.raises(UnavailableError):
        SessionStore("postgresql://me@127.0.0.1:9/db", setup=False).to_arrow()
