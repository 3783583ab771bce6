"""What no column can hold is refused here, with the reason, so that Postgres is never the first to refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from langgraph_session_store import Column, SessionRecord
from langgraph_session_store.store import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator


class Numbers(SessionRecord, table="numbers"):
    """A record of columns with limits."""

    whole: Annotated[int | None, Column(sql="integer")] = None
    wide: Annotated[int | None, Column(sql="double precision")] = None
    ratio: float | None = None
    amount: Annotated[Decimal | None, Column(sql="numeric(10,2)")] = None
    exact: Decimal | None = None
    spelled: Annotated[float | None, Column(sql="numeric")] = None
    tally: Annotated[int | None, Column(sql="numeric")] = None
    due: datetime | None = None


@pytest.fixture
def numbers(dsn: str, schema: str) -> Iterator[SessionStore]:
    with SessionStore(dsn, schema=schema, record=Numbers) as store:
        yield store


REFUSED = [
    ("whole", 2**31, "beyond the range of integer"),
    ("wide", 10**400, "beyond the range of double precision"),
    ("ratio", float("nan"), "not a finite number"),
    ("ratio", float("-inf"), "not a finite number"),
    ("amount", Decimal("123456789.00"), r"beyond the range of numeric(10,2)"),
    ("exact", Decimal("1e131072"), "beyond the range of numeric"),
    ("exact", Decimal("1e-16384"), "beyond the range of numeric"),
    ("exact", Decimal("Infinity"), "finite"),
    ("spelled", float("inf"), "not a finite number"),
    ("tally", 1 << 600_000, "beyond the range of numeric"),
    ("due", datetime.max.replace(tzinfo=UTC), "last moment of the calendar"),
]
KEPT = [
    ("whole", -(2**31)),
    ("wide", 2**40),
    ("ratio", 1.5e308),
    ("amount", Decimal("12345678.90")),
    ("exact", Decimal("1e-16383")),
    ("spelled", 0.1),
]


@pytest.mark.parametrize(("name", "value", "reason"), REFUSED, ids=[f"{name}: {reason}" for name, _, reason in REFUSED])
def test_what_is_refused_says_why(numbers: SessionStore, name: str, value: Any, reason: str) -> None:
    numbers.save("t-1", {name: value})
    session = numbers.get("t-1")
    assert session is not None
    assert session[name] is None
    assert reason in session["rejected"][name]["reason"]


@pytest.mark.parametrize(("name", "value"), KEPT)
def test_what_is_just_inside_is_kept(numbers: SessionStore, name: str, value: Any) -> None:
    numbers.save("t-1", {name: value})
    session = numbers.get("t-1")
    assert session is not None
    assert session["rejected"] is None
    assert session[name] == (Decimal(repr(value)) if name == "spelled" else value)
