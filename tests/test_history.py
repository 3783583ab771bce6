"""A history line is made where content changes, not where the same content is only spelled in another way."""

from __future__ import annotations

import pytest

from langgraph_session_store.queries.history import changes, new_lines
from langgraph_session_store.row import Row, Slot

TESTS = Slot("problem_tests", "jsonb", "set", "versioned")
CODE = Slot("code", "text", "set", "versioned")


def lines(slot: Slot, *texts: str) -> int:
    """Return how many lines the *texts* make, one after the other."""
    return len(new_lines([], changes(Row("t", at, 0, 0, True, (slot,), (text,)) for at, text in enumerate(texts, 1))))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', '{"b": 2, "a": 1}'),
        ("[1]", "[1.0]"),
        ("[0.1,-2.50]", "[1e-1, -25e-1]"),
        ("[1e16]", "[10000000000000000]"),
        ("[1e+300]", f"[1{'0' * 300}]"),
        ('[1,{"z":"é\\u000b\\u007f/","a":[true,null]}]', '[1.0, {"a": [true, null], "z": "\\u00e9\\u000b\\u007f\\/"}]'),
        ("[[],{}]", "[ [ ], { } ]"),
        ("[0.0]", "[0]"),
        ("1e1", "10"),
    ],
)
def test_another_spelling_is_no_change(one: str, other: str) -> None:
    assert lines(TESTS, one, other) == 1
    assert lines(TESTS, other, one) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[1]", '["1"]'),
        ("[0.1]", '["0.1"]'),
        ("[1]", "[true]"),
        ("[1,2]", "[2,1]"),
        ('[{"a":1}]', '[{"b":1}]'),
        (f"[{10**19 + 1}]", f"[{10**19 + 2}]"),
        (f"[{2**80}]", f"[{2**80 + 1}]"),
        ("[0.1]", "[0.10000000000000002]"),
        ('["1.50"]', '["1.5"]'),
        ('["a"]', '["A"]'),
    ],
)
def test_other_content_is_a_change(one: str, other: str) -> None:
    assert lines(TESTS, one, other) == 2


def test_text_is_compared_as_it_is() -> None:
    assert lines(CODE, '{"a":1}', '{"a": 1}') == 2
    assert lines(CODE, "x", "x") == 1
