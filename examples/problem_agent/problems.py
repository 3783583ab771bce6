"""The problems: read from a file in the shape of MBPP, and placed by topic and difficulty."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pathlib import Path


class Entry(TypedDict):
    """One line of a problem file: a prompt, a solution that works, and asserts that show it."""

    task_id: int
    prompt: str
    code: str
    test_imports: list[str]
    test_list: list[str]


class Problem(TypedDict):
    """What the agent sets out to solve; *imports* are lines that the tests need first."""

    description: str
    tests: list[str]
    imports: list[str]


def load_entries(path: Path) -> list[Entry]:
    """Return the entries of the JSON Lines file *path*."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def spread(entries: list[Entry], count: int) -> list[Entry]:
    """Return *count* of *entries*, or all where there are fewer, taken at even distances."""
    count = min(count, len(entries))
    return [entries[index * len(entries) // count] for index in range(count)]


_TOPICS = {
    "dates": r"dates?|days?|months?|years?|calendar|weekday|leap",
    "graphs": r"graphs?|edges?|vertex|vertices|trees?|paths?|routes?|reachable|network",
    "geometry": r"area|volume|perimeter|circumference|circle|triangle|triangular|cone|cylinder|cube|sphere|rectangle|polygon"
    r"|pentagon|square pyramid|trapezium|polar|angle|coordinates?",
    "mappings": r"dictionary|dictionaries|keys?|mapping|frequency|frequencies",
    "strings": r"strings?|characters?|words?|letters?|substrings?|case|vowels?|sentence|regex|text|palindromes?",
    "arrays": r"lists?|arrays?|tuples?|sequences?|sublists?|elements?|matrix|subsequence|items?|pairs?",
    "numbers": r"numbers?|integers?|digits?|primes?|divisors?|factors?|powers?|sum|nth|n'th|bits?|binary|xor|roots?|median",
}
_HARD = (
    r"subsequences?|subsets?|permutations?|combinations?|rearranging|ways|shortest|longest|contiguous|nested|recursive"
    r"|matrix|minimum number|maximum sum|maximum difference|nth|n'th|kth|every|such that|possible"
)
_LONG_PROMPT = 16
"""Words; each full measure of them counts as one sign of difficulty."""


def classify(prompt: str) -> tuple[str, str]:
    """Return the topic and the difficulty that the words of *prompt* suggest.

    The topic is the one with most keywords (the earlier one on a tie), `other` without any. Every sign of a harder problem
    (a telling word, much to say) lifts it one step from `easy` over `medium` to `hard`. A guess, and meant as one.
    """
    words = prompt.lower()
    hits = {topic: len(set(_found(pattern, words))) for topic, pattern in _TOPICS.items()}
    topic = max(hits, key=hits.__getitem__)
    signs = len(set(_found(_HARD, words))) + len(words.split()) // _LONG_PROMPT
    return (topic if hits[topic] else "other", ("easy", "medium", "hard")[min(signs, 2)])


def _found(pattern: str, words: str) -> list[str]:
    return re.findall(rf"\b(?:{pattern})\b", words)
