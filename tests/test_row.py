"""A row's shape is one object for many rows, and its JSON is made once."""

from __future__ import annotations

import gc
import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_store.callbacks.runs import Run, start_row
from langgraph_session_store.extract import Fields
from langgraph_session_store.row import SHAPES, Row, Slot, dumps, loads, own

if TYPE_CHECKING:
    from langgraph_session_store.row import Shape

NAMES = ["workflow_status", "trace_id", "graph_name", "started_at", "finished_at", "error", "metadata", "rejected"]


def row(shape: Shape) -> Row:
    return Row("t", 1, 1, 1, True, shape, (None,) * len(shape))


def shape_of(number: int) -> Shape:
    return Slot(f"column_{number}", "text", "set", "field"), own("run_id")


@given(st.lists(st.integers(0, 3 * SHAPES), min_size=1, max_size=3 * SHAPES))
def test_shapes_come_and_go_and_each_row_keeps_its_own(numbers: list[int]) -> None:
    for number in numbers:
        assert loads(dumps(row(shape_of(number)))) == row(shape_of(number))


def test_shapes_that_die_leave_their_ids_to_others() -> None:
    for number in range(4 * SHAPES):
        assert loads(dumps(row(shape_of(number)))).shape[0].name == f"column_{number}"
        gc.collect(0)


def test_threads_make_shapes_at_the_same_time() -> None:
    wrong: list[int] = []

    def work(begin: int) -> None:
        wrong.extend(
            number
            for number in range(begin, begin + 2 * SHAPES)
            if loads(dumps(row(shape_of(number)))) != row(shape_of(number))
        )

    threads = [threading.Thread(target=work, args=(begin,)) for begin in range(0, 4 * SHAPES, SHAPES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("user_id", [None, "u"])
@pytest.mark.parametrize("run_id", [None, "r"])
def test_what_is_known_of_a_run_stands_before_its_fields(run_id: str | None, user_id: str | None) -> None:
    run = Run(uuid.uuid4(), "t", 1, 1, None, "t", user_id=user_id, mlflow_run_id=run_id)
    fields = Fields(shape_of(1), ("field", None), {}, None)
    made = start_row(run, fields, (1, 1, True), None)
    known = {"run_id": run_id, "user_id": user_id}
    told = [name for name, value in known.items() if value is not None]
    assert [slot.name for slot in made.shape] == [*NAMES, "created_at", *told, "column_1", "run_id"]
    assert len(made.values) == len(made.shape)
    assert made.values[len(NAMES) + 1 :] == (*(known[name] for name in told), "field", None)
    assert start_row(run, fields, (2, 2, True), None).shape is made.shape
