"""Sessions as csv, ndjson and parquet: exact, safe in spreadsheets, whole or not at all, in constant memory."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_store.cli.output import json_line
from langgraph_session_store.columns import TableColumn
from langgraph_session_store.errors import ConfigError, MissingExtraError
from langgraph_session_store.export import export, make_encoder
from langgraph_session_store.frames import tables as frames
from langgraph_session_store.web.problems import dumps

COLUMNS = (
    TableColumn("id", "uuid"),
    TableColumn("at", "timestamptz"),
    TableColumn("day", "date"),
    TableColumn("text", "text"),
    TableColumn("flag", "boolean"),
    TableColumn("count", "bigint"),
    TableColumn("share", "double precision"),
    TableColumn("price", "numeric(10,2)"),
    TableColumn("tests", "jsonb"),
)
ROW = {
    "id": UUID(int=7),
    "at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    "day": date(2026, 1, 2),
    "text": 'he said "hi",\r\nand left',
    "flag": False,
    "count": -3,
    "share": -0.5,
    "price": Decimal("-12.50"),
    "tests": [{"in": 2**70, "out": None}, "é"],
}
NONE = dict.fromkeys(ROW)
FORMATS = ["csv", "ndjson", "parquet"]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    "=+-@\t\r\n\uff1d"
).flatmap(
    lambda first: st.text(max_size=3).map(lambda rest: first + rest.encode(errors="ignore").decode().replace("\0", ""))
)


def written(rows, kind, columns=COLUMNS) -> bytes:
    out = io.BytesIO()
    assert export(rows, columns, out, kind) == len(rows)
    return out.getvalue()


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2))])
def test_times_read_the_same_wherever_they_are_told(zone):
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)
    columns = [TableColumn("at", "timestamptz")]
    ndjson = json.loads(written([{"at": at}], "ndjson", columns))
    assert ndjson["at"] == json.loads(dumps({"at": at}))["at"] == json.loads(json_line({"at": at}))["at"]
    assert ndjson["at"] == ("2026-01-02T03:04:05Z" if zone is UTC else "2026-01-02T03:04:05+02:00")


def test_times_of_csv_are_all_of_one_format():
    columns = [TableColumn("at", "timestamptz"), TableColumn("local", "timestamp")]
    moments = [datetime(2026, 1, 2, 3, 4, 5, n, tzinfo=UTC) for n in (0, 285960)]
    data = written([{"at": at, "local": at.replace(tzinfo=None)} for at in moments], "csv", columns)
    assert data.decode().splitlines()[1:] == [
        "2026-01-02T03:04:05.000000Z,2026-01-02T03:04:05.000000",
        "2026-01-02T03:04:05.285960Z,2026-01-02T03:04:05.285960",
    ]
    read = pd.read_csv(io.BytesIO(data))
    assert list(pd.to_datetime(read["at"])) == moments


def test_csv_of_every_type():
    head, first, second = csv.reader(io.StringIO(written([ROW, NONE], "csv").decode(), newline=""))
    assert head == list(ROW)
    assert first[:8] == [
        "00000000-0000-0000-0000-000000000007",
        "2026-01-02T03:04:05.000678Z",
        "2026-01-02",
        ROW["text"],
        "false",
        "-3",
        "-0.5",
        "-12.50",
    ]
    assert json.loads(first[8]) == ROW["tests"]
    assert second == [""] * 9


@given(texts=st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_no_cell_of_csv_is_a_formula_and_every_text_comes_back(texts):
    columns = (TableColumn("a", "text"), TableColumn("b", "text"))
    data = written([{"a": a, "b": b} for a, b in texts], "csv", columns).decode()
    rows = list(csv.reader(io.StringIO(data, newline="")))[1:]
    assert len(rows) == len(texts)
    for cells, meant in zip(rows, texts, strict=True):
        for cell, text in zip(cells, meant, strict=True):
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert text in (cell, cell[1:])
            assert cell == text or cell[0] == "'"


def test_numbers_of_csv_stay_numbers_and_texts_that_look_like_them_do_not():
    columns = (TableColumn("n", "bigint"), TableColumn("t", "text"), TableColumn("j", "jsonb"))
    rows = [{"n": -1, "t": "-1", "j": -1}, {"n": 1, "t": "a=b", "j": "=1+1"}]
    assert written(rows, "csv", columns) == b'n,t,j\r\n-1,\'-1,-1\r\n1,a=b,"""=1+1"""\r\n'


def test_ndjson_of_every_type():
    first, second = written([ROW, NONE], "ndjson").decode().splitlines()
    read = json.loads(first, parse_float=Decimal)
    assert read == {
        **ROW,
        "id": str(ROW["id"]),
        "at": "2026-01-02T03:04:05.000678Z",
        "day": "2026-01-02",
        "share": Decimal("-0.5"),
    }
    assert '"price":-12.50' in first
    assert json.loads(second) == NONE
    strange = [{"price": Decimal("NaN"), "share": float("nan"), "count": 2**80}]
    assert json.loads(written(strange, "ndjson")) == {**NONE, "count": 2**80}


def test_parquet_is_the_arrow_table_of_the_rows():
    rows = [ROW, NONE] * 300
    table = pq.read_table(io.BytesIO(written(rows, "parquet")))
    assert table.equals(frames.to_arrow(rows, COLUMNS))


@pytest.mark.parametrize("kind", FORMATS)
def test_no_rows_are_a_valid_file(kind):
    data = written([], kind)
    if kind == "csv":
        assert data.decode() == ",".join(ROW) + "\r\n"
    elif kind == "parquet":
        assert pq.read_table(io.BytesIO(data)).schema == frames.arrow_schema(COLUMNS)
    else:
        assert data == b""


@pytest.mark.parametrize("kind", FORMATS)
def test_memory_does_not_grow_with_the_rows(kind):
    def peak(count: int) -> int:
        rows = ({**ROW, "text": f"{number} " + "x" * 2000} for number in range(count))
        with Path(os.devnull).open("wb") as nowhere:
            tracemalloc.start()
            export(rows, COLUMNS, nowhere, kind)
            found = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return found

    peak(10)
    assert peak(4_000) < 1.5 * peak(1_000) + 200_000


def test_parquet_is_written_in_groups_while_rows_come():
    encoder = make_encoder("parquet", COLUMNS)
    row = {**ROW, "text": os.urandom(200_000).hex()}
    sizes = [len(encoder.encode([row])) for _ in range(100)]
    assert sum(size > 0 for size in sizes[1:]) >= 2


def test_progress_is_told_the_rows_so_far(tmp_path):
    told: list[int] = []
    assert export([ROW] * 450, COLUMNS, tmp_path / "a.csv", progress=told.append) == 450
    assert told == sorted(set(told))
    assert told[-1] == 450
    assert len(told) > 1


def test_a_path_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("before")
    path.chmod(0o600)

    def interrupted():
        yield from [ROW] * 1000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(interrupted(), COLUMNS, path)
    assert path.read_text() == "before"
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "target.jsonl")
    assert export([ROW], COLUMNS, path) == export([ROW], COLUMNS, str(link)) == 1
    assert path.read_text().startswith("id,at")
    assert path.stat().st_mode & 0o777 == 0o600
    assert link.is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.jsonl", "out.csv", "target.jsonl"]


def test_ctrl_c_in_a_process_leaves_no_half_file(tmp_path):
    code = f"""
import itertools, time
from langgraph_session_store.cli.output import json_line
from langgraph_session_store.columns import TableColumn
from langgraph_session_store.export import export
def rows():
    for n in itertools.count():
        if n == 1000: print("going", flush=True)
        if n > 1000: time.sleep(0.01)
        yield {{"n": n}}
export(rows(), [TableColumn("n", "bigint")], {str(tmp_path / "out.csv")!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"going\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == -signal.SIGINT
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_pipe_that_closes_is_a_clean_end(kind):
    code = f"""
import sys
from langgraph_session_store.cli.output import json_line
from langgraph_session_store.columns import TableColumn
from langgraph_session_store.export import export
rows = ({{"n": n, "t": str(n) * 500}} for n in range(300_000))
done = export(rows, [TableColumn("n", "bigint"), TableColumn("t", "text")], sys.stdout.buffer, {kind!r})
assert 0 < done < 300_000, done
print("after the end")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(10)
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(120) == 0


def test_a_stream_is_left_open_and_a_pipe_with_a_name_is_written_into(tmp_path):
    out = io.BytesIO()
    export([ROW], COLUMNS, out, "csv")
    assert not out.closed
    fifo = tmp_path / "fifo.ndjson"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    assert export([NONE], COLUMNS, fifo) == 1
    reader.join(120)
    assert json.loads(read[0]) == NONE
    assert not fifo.is_file()


def test_an_error_of_the_rows_or_the_disk_is_raised(tmp_path):
    missing = tmp_path / "missing" / "a.csv"
    with pytest.raises(FileNotFoundError) as caught:
        export([ROW], COLUMNS, missing)
    assert (caught.value.filename, caught.value.filename2) == (str(missing), None)

    def broken():
        yield ROW
        raise BrokenPipeError("the database's, not the reader's")

    with pytest.raises(BrokenPipeError, match="the database's"):
        export(broken(), COLUMNS, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_told_the_known_ones(tmp_path):
    for target, kind in ((tmp_path / "a.xlsx", None), (io.BytesIO(), None), (tmp_path / "a.csv", "xml")):
        with pytest.raises(ConfigError, match="csv, ndjson, parquet"):
            export([], COLUMNS, target, kind)
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_pyarrow_says_how_to_get_it(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"langgraph-session-store\[frames\]"):
        export([ROW], COLUMNS, tmp_path / "a.parquet")
    assert export([ROW], COLUMNS, tmp_path / "a.csv") == 1
