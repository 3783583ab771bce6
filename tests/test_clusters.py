"""Groups of similar sessions: sensible on prompts, the same each time, and calm about few, equal and missing texts."""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from langgraph_session_store.clusters import Clusters, cluster_sessions
from langgraph_session_store.columns import TableColumn
from langgraph_session_store.errors import ConfigError, MissingExtraError
from langgraph_session_store.session import Session, SessionPage

TOPICS = {
    "string": """Reverse the characters of a string.
        Write a function that counts the vowels in a string.
        Check whether a string is a palindrome, ignoring case and spaces.
        Find the longest substring without repeating characters.
        Write a python function to remove all whitespace from a string.
        Replace every character of a string with the next letter of the alphabet.
        Given a string, return the first character that occurs only once.
        Convert a string from snake case to camel case.
        Decide whether two strings are anagrams of each other.
        Capitalize the first letter of each word in a string.
        Compress a string by counting repeated characters, so that aaabb becomes a3b2.
        Split a string into words and return the longest word.""",
    "list": """Sort a list of tuples by their second element.
        Write a function to remove duplicate elements from a list and keep their order.
        Flatten a nested list into a single list.
        Find the elements that two lists have in common.
        Write a python function to rotate a list by k elements.
        Split a list into sublists of a given length.
        Merge two sorted lists into one sorted list.
        Return the second largest element of a list.
        Move all zero elements of a list to its end.
        Given a list, return the elements that appear more than once.
        Insert an element into a sorted list so that it stays sorted.
        Swap the first and the last element of a list.""",
    "number": """Check whether a number is prime.
        Find the greatest common divisor of two numbers.
        Write a function to calculate the factorial of a number.
        Return the sum of the digits of a number.
        Write a python function to calculate the nth Fibonacci number.
        Decide whether a number is a perfect square.
        Convert a decimal number to binary.
        Find the prime factors of a number.
        Calculate the least common multiple of two numbers.
        Count the divisors of a positive number.
        Check if a number is even or odd without the modulo operator.
        Write a function that returns the number of digits of a factorial.""",
    "date": """Calculate the number of days between two dates.
        Write a function that returns the weekday of a date.
        Check whether a year is a leap year.
        Add a given number of months to a date.
        Parse a date such as 2024-05-17 and return its day, month and year.
        Return the last day of a month in a given year.
        Write a python function to convert a date from one time zone to another.
        Given a birth date, calculate the age in years on a given date.
        List all Mondays of a month in a given year.
        Return the date of Easter in a year.
        Format a date as day, month and year.
        Find the week of the year to which a date belongs.""",
}
ROWS = [
    {
        "thread_id": f"{topic}-{number}",
        "user_prompt": text.strip(),
        "topic": topic,
        "workflow_status": "completed" if topic != "date" else "failed",
        "tests_passed": topic != "date",
    }
    for topic, texts in TOPICS.items()
    for number, text in enumerate(texts.splitlines())
]
MBPP = Path(__file__).parents[2] / "shared" / "data" / "mbpp.jsonl"


class Topical(Embeddings):
    """Embeddings that know the topics, and count how often they are asked."""

    def __init__(self):
        self.asked = []

    def embed_documents(self, texts):
        self.asked.append(list(texts))
        place = {row["user_prompt"]: list(TOPICS).index(row["topic"]) for row in ROWS}
        return [np.eye(4)[place[text]] + 0.01 * np.random.default_rng(len(text)).random(4) for text in texts]

    def embed_query(self, text):
        raise NotImplementedError


def numbers(clusters: Clusters) -> list[int]:
    return [number for _, number in clusters.members]


def told(clusters: Clusters) -> list[tuple]:
    return [(group.name, group.terms, group.size, group.examples) for group in clusters]


def test_strings_lists_numbers_and_dates_fall_apart():
    clusters = cluster_sessions(ROWS)
    assert len(clusters) == 4
    for group in clusters:
        topics = Counter(
            row["topic"] for row, number in zip(ROWS, numbers(clusters), strict=True) if number == group.number
        )
        ((topic, count),) = topics.most_common(1)
        assert count >= 0.9 * group.size
        assert topic in group.terms[:2]
        assert group.success_rate == (0.0 if topic == "date" and count == group.size else pytest.approx(1.0, abs=0.1))
        assert len(group.examples) == 3
    assert [group.number for group in clusters] == [0, 1, 2, 3]
    assert clusters.silhouette is not None
    assert clusters.silhouette > 0.1


@pytest.mark.skipif(not MBPP.exists(), reason="the prompts of MBPP are not on this machine")
def test_real_prompts_fall_apart_sensibly():
    texts = [json.loads(line)["prompt"] for line in MBPP.read_text().splitlines()]
    clusters = cluster_sessions([{"thread_id": str(n), "user_prompt": text} for n, text in enumerate(texts)])
    assert 6 <= len(clusters) <= 13
    heads = [group.terms[0] for group in clusters if group.terms]
    assert {"string", "list", "tuple", "number", "array", "dictionary"} <= set(heads)
    assert max(group.size for group in clusters) < len(texts) / 3
    for word in ("string", "tuple", "dictionary", "array"):
        (home,) = (group.number for group in clusters if group.terms and group.terms[0] == word)
        there = [number for text, number in zip(texts, numbers(clusters), strict=True) if f" {word}" in text.lower()]
        assert there.count(home) > 0.4 * len(there), word


def test_neither_order_nor_repetition_nor_a_second_time_changes_the_groups():
    shuffled = random.Random(5).sample(ROWS, len(ROWS))
    assert told(cluster_sessions(shuffled)) == told(cluster_sessions(ROWS)) == told(cluster_sessions(ROWS))
    by_thread = dict(cluster_sessions(ROWS).members)
    assert dict(cluster_sessions(shuffled).members) == by_thread
    repeated = cluster_sessions(ROWS * 3)
    assert numbers(repeated)[: len(ROWS)] == numbers(cluster_sessions(ROWS))
    assert [group.size for group in repeated] == [36] * 4


def test_the_result_joins_the_rows():
    frame = pd.DataFrame(ROWS)
    joined = frame.merge(cluster_sessions(frame).to_pandas(), on="thread_id", validate="1:1")
    assert len(joined) == len(ROWS)
    assert joined.groupby("topic")["cluster_name"].agg(lambda names: names.value_counts().iloc[0]).min() >= 11
    page = SessionPage(map(Session, ROWS), columns=[TableColumn(name, "text") for name in ROWS[0]])
    assert told(cluster_sessions(page)) == told(cluster_sessions(frame)) == told(cluster_sessions(iter(ROWS)))
    empty = cluster_sessions([]).to_pandas()
    assert [str(kind) for kind in empty.dtypes] == ["string", "Int64", "string"]


def test_embeddings_stand_in_for_tf_idf_and_are_asked_once():
    embeddings = Topical()
    clusters = cluster_sessions(
        [*ROWS, *ROWS, {"thread_id": "none", "user_prompt": None}], embeddings=embeddings, groups=4
    )
    assert len(embeddings.asked) == 1
    assert len(embeddings.asked[0]) == len(ROWS)
    assert [group.size for group in clusters] == [24, 24, 24, 24, 1]
    assert {group.terms[0] for group in clusters if group.terms} >= {"string", "list", "number"}
    fake = DeterministicFakeEmbedding(size=16)
    assert told(cluster_sessions(ROWS, embeddings=fake)) == told(cluster_sessions(ROWS, embeddings=fake))
    assert cluster_sessions([{"user_prompt": None}], embeddings=fake).groups[0].name == "(no text)"


def test_categories_pull_equal_texts_apart():
    rows = [
        {"thread_id": str(n), "user_prompt": "Sort a list", "difficulty": ("easy", "hard")[n % 2]} for n in range(10)
    ]
    assert len(cluster_sessions(rows, groups=2)) == 1
    apart = cluster_sessions(rows, categorical="difficulty", groups=2)
    assert [number == apart.members[0][1] for _, number in apart.members] == [n % 2 == 0 for n in range(10)]


def test_several_texts_count_together():
    rows = [{"thread_id": str(n), "a": None, "b": row["user_prompt"]} for n, row in enumerate(ROWS)]
    assert told(cluster_sessions(rows, text=("a", "b"))) == told(cluster_sessions(ROWS))


@pytest.mark.parametrize("groups", [None, 1, 2, 5])
@pytest.mark.parametrize(
    ("texts", "most"),
    [
        ([], 0),
        (["sort a list"], 1),
        (["sort a list", "reverse a string"], 2),
        (["sort a list", "reverse a string", None], 3),
        (["same words"] * 10, 1),
        (["Same words.", "same, words"] * 5, 1),
        ([None, "", "   "], 1),
        (["the of and", "2 + 2 = 4", "write a function"], 1),
        ([1234, {"content": "a list"}, ["a string"]], 3),
        (["сортировка списка", "обратная строка", "ταξινόμηση λίστας"], 3),
    ],
)
def test_few_equal_and_missing_texts(texts, most, groups):
    rows = [{"thread_id": f"t{number}", "user_prompt": text} for number, text in enumerate(texts)]
    clusters = cluster_sessions(rows, groups=groups)
    assert (len(rows) > 0) <= len(clusters) <= most
    assert sum(group.size for group in clusters) == len(rows) == len(clusters.to_pandas())
    assert all(group.success_rate is None for group in clusters)
    assert clusters.plot()._repr_png_().startswith(b"\x89PNG")
    assert clusters._repr_html_().startswith("<table>")


def test_groups_as_many_as_asked():
    for count in (1, 3, 7):
        assert len(cluster_sessions(ROWS, groups=count)) == count


def test_what_cannot_be_grouped_is_said():
    with pytest.raises(ConfigError, match="no field question; there are thread_id, user_prompt"):
        cluster_sessions(ROWS, text="question")
    with pytest.raises(ConfigError, match="no field level"):
        cluster_sessions(ROWS, categorical=["level"])
    with pytest.raises(ConfigError, match="at least 1"):
        cluster_sessions(ROWS, groups=0)
    with pytest.raises(ConfigError, match="at least one field"):
        cluster_sessions(ROWS, text=())


def test_the_picture_names_the_groups_and_the_table_escapes_them():
    clusters = cluster_sessions(
        [*ROWS, {"thread_id": "x", "user_prompt": "<script>alert(1)</script> date year month day"}]
    )
    (legend,) = clusters.plot().legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{group.name} ({group.size})" for group in clusters]
    html = cluster_sessions([{"user_prompt": "<script>alert(1)</script>"}])._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_the_picture_names_also_the_group_that_has_no_place():
    figure = cluster_sessions([*ROWS, {"user_prompt": None}, {"user_prompt": "2 + 2"}]).plot()
    (legend,) = figure.legends
    named = [text.get_text() for text in legend.get_texts()]
    assert named[-1] == "(other) (2), no place"
    assert sum(int(re.findall(r"\((\d+)\)", name)[0]) for name in named) == len(ROWS) + 2
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_without_scikit_learn_it_says_how_to_get_it(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sklearn", "threadpoolctl")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"langgraph-session-store\[frames\]"):
        cluster_sessions(ROWS)
