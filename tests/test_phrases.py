"""The pattern by which a phrase is looked up in a trigram index finds whatever the phrase is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL

from langgraph_session_store.columns import TableColumn
from langgraph_session_store.filters.phrases import weaker
from langgraph_session_store.filters.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = [
    "sort",
    "request",
    "384615",
    "größe",
    "İstanbul",
    "straße",
    "of",
    "a",
    "_",
    "%",
    "\\",
    "—",
    "写",
    "Ⅷ",
    "e\u0301te",
    "xy_zzy",
]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
PHRASES = st.lists(st.sampled_from(WORDS) | TEXT, min_size=1, max_size=6).flatmap(
    lambda words: st.sampled_from([" ", "", "-", "\n"]).map(lambda gap: gap.join(words))
)


@pytest.mark.parametrize(
    ("phrase", "pattern"),
    [
        ("request 384615 ", "req_est_384%615_"),
        ("two sum", "two_sum"),
        ("internationalization of strings", "int______________ion____str_ngs"),
        ("100% of the größere", "100_____the_größere"),
        ("abc_def%ghi\\jkl", "abc_def_ghi_jkl"),
        ("request by", None),  # a single word with a trigram of its own
        ("internationalization", None),
        ("", None),
    ],
)
def test_a_phrase_keeps_the_ends_of_its_words(phrase: str, pattern: str | None) -> None:
    assert weaker(phrase) == pattern


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as opened:
        yield opened


@settings(max_examples=300, deadline=None)
@given(PHRASES, TEXT, TEXT)
def test_whatever_holds_the_phrase_is_found(
    connection: psycopg.Connection[Any], phrase: str, before: str, after: str
) -> None:
    plain = Vocabulary([TableColumn("id", "uuid"), TableColumn("told", "text")])
    searched = Vocabulary([TableColumn("id", "uuid"), TableColumn("told", "text", index="trigram")])
    texts = [
        before + phrase + after,
        phrase + after,
        before + phrase.swapcase() + after,
        before + phrase.lower(),
        before,
    ]
    for operator in ("contains", "icontains", "startswith"):
        found = [
            connection.execute(
                SQL("SELECT told FROM unnest(%(texts)s::text[]) AS told WHERE {}").format(condition.sql),
                {**condition.params, "texts": texts},
            ).fetchall()
            for condition in (words.where({f"told__{operator}": phrase}) for words in (plain, searched))
        ]
        assert found[0] == found[1]
        assert (phrase + after,) in found[1]
