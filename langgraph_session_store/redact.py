"""Mask credentials in free text and under telling keys, before anything touches the disk.

It is a net for accidents, not a proof: what no pattern knows passes. Every pattern is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "[redacted]"
_DEPTH: Final = 64

_NAME: Final = (
    r"(passwo?r?d|passwd|passphrase|\bpwd|secret|token(?!s|iz|_?(?:count|usage|limit))|api[-_ ]?key|access[-_]?key|"
    r"private[-_]?key|authorization|credentials?|cookie)"
)
_EQUALS: Final = r"((?:[-_]?(?:id|key|access|value))?\\?[\"']?\s{0,4}+[:=]\s{0,4}+)"
_VALUE: Final = r"""(?:\\"(?:[^"\\]|\\[^"])*+(?:\\")?|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[^\s,;&)}\]"']++)"""  # \"x\", "x", 'x', x

# Linear: a pattern starts only where a run of its characters starts, stops where the next could start, or is bounded.
_PATTERNS: Final = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        MASK,
    ),
    # user:password@ in a URL: the password may hold an unescaped @ or /, the user may be a token
    (re.compile(r"""(//)[^\s/?#@:"'<>]*+(?::[^\s/"'<>]*(?:/(?!/)[^\s/"'<>]*)*)?@"""), rf"\1{MASK}@"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{4,}+\.[\w-]{4,}+(?:\.[\w-]*+)?"), MASK),
    (
        # not "basic training": a digit, a capital amid small letters, or great length
        re.compile(
            r"\b((?i:bearer|basic)\s{1,4}+)(?=[\w.~+/-]{0,64}(?:[\d=]|[a-z][A-Z])|[\w.~+/-]{20})[\w.~+/-]{6,}+=*+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?<![\w-])(?:sk|pk|rk)[-_][\w-]{6,}+"), MASK),
    (re.compile(r"(?<![\w-])(?:gh[opsu]_|github_pat_|glpat-|xox[abeprs]-|hf_|lsv2_|npg_|dapi|AIza)[\w-]{12,}+"), MASK),
    (re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA|AROA)[A-Z0-9]{16}(?![A-Z0-9])"), MASK),
    # key=value, key: value, "key": "value": a quoted value, or up to the next separator
    (re.compile(_NAME + _EQUALS + _VALUE, re.IGNORECASE), rf"\1\2{MASK}"),
)

_SECRET_KEY: Final = re.compile(
    r"passw|passphrase|(?:^|_)pwd(?:$|_)|secret|api_?key|access_?key|private_?key|(?:^|_)auth$|authorization|cookie"
    r"|credential|bearer"
)
_TOKEN_KEY: Final = re.compile(r"token$|(?:auth|access|refresh|bearer|session|api)_?tokens$")


def redact_text(text: str) -> str:
    """Return *text* with its credentials masked: bearer tokens, API keys, JWTs, ``password=...``, passwords in URLs."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_keys(value: Any) -> Any:
    """Return a copy of *value* whose values under keys like ``api_key`` or ``password`` are masked, at any depth.

    Only mappings, lists and tuples are entered; shared and cyclic ones stay so. Numbers under a ``..._token`` are counts.
    """
    return _masked(value, {}, _DEPTH)


def _masked(value: Any, done: dict[int, Any], depth: int) -> Any:
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if id(value) in done:
        return done[id(value)]
    if not depth:
        return MASK
    if isinstance(value, Mapping):
        copy: dict[Any, Any] = {}
        done[id(value)] = copy
        for key, item in value.items():
            copy[key] = MASK if _is_secret(key, item) else _masked(item, done, depth - 1)
        return copy
    items: list[Any] = []
    done[id(value)] = items
    items.extend(_masked(item, done, depth - 1) for item in value)
    return items


def _is_secret(key: object, value: object) -> bool:
    if not isinstance(key, str) or value is None:
        return False
    name = key.lower().replace("-", "_").replace(" ", "_")
    if _SECRET_KEY.search(name):
        return not isinstance(value, bool)
    return not isinstance(value, (int, float)) and bool(_TOKEN_KEY.search(name))
