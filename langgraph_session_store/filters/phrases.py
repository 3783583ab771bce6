"""How a phrase is looked up in a trigram index: by the ends of its words, and only what is found so is compared with the phrase.

The index reads the list of every trigram that a pattern holds, and those of a word that each row has are as long as the table:
six lists or more for one such word, of which two would do.
"""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = re.compile(r"[^\W_]{3,}")
_WORD_OR_GAP: Final = re.compile(r"[^\W_]+|[\x00-\x7f]")
_END: Final = 3  # letters: a trigram


def weaker(phrase: str) -> str | None:
    """Return a LIKE pattern that matches wherever *phrase* is, with fewer trigrams; None for a single word, whose are as rare as itself.

    What is left out becomes ``_``, so that the rest stands as far apart as in the phrase. What is not ASCII stays: ILIKE may see a
    character as two.
    """
    return _WORD_OR_GAP.sub(_ends, phrase) if len(_WORD.findall(phrase)) > 1 else None


def _ends(part: re.Match[str]) -> str:
    word = part[0]
    if not word.isascii():
        return word
    if len(word) < _END:
        return "_" * len(word)
    left_out = len(word) - 2 * _END
    return word if left_out < 0 else word[:_END] + ("_" * left_out or "%") + word[-_END:]
