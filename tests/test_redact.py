"""Credentials do not reach the disk, and what only looks like one stays readable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_session_store.redact import MASK, redact_keys, redact_text

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s3cr3t-sig_nature"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("401: bearer AbCdEfGhIjKl", "AbCdEfGhIjKl"),
        ("Incorrect API key provided: sk-proj-abc_DEF123", "sk-proj-abc_DEF123"),
        ("stripe sk_live_51Habcdef", "sk_live_51Habcdef"),
        ("cloning with ghp_0123456789abcdefghij", "ghp_0123456789abcdefghij"),
        ("github_pat_11ABCDEFG0123456789", "github_pat_11ABCDEFG0123456789"),
        ("slack xoxb-123456789012-abc", "xoxb-123456789012-abc"),
        ("google AIzaSyA-1234567890abcdef", "AIzaSyA-1234567890abcdef"),
        ("hf_abcdefghijklmnop", "hf_abcdefghijklmnop"),
        ("aws AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        (f"jwt {JWT} expired", JWT),
        ("password=hunter2 host=db", "hunter2"),
        ("PGPASSWORD='a b c' psql", "a b c"),
        ("OPENAI_API_KEY=abc", "=abc"),
        ("x-api-key: 12345", "12345"),
        ("client_secret: xyzzy;", "xyzzy"),
        ('{"api_key": "s3 cr3t", "a": 1}', "s3 cr3t"),
        ("{'access_token': 'abc'}", "'abc'"),
        (r"{\"password\": \"x y\"}", "x y"),
        ("password: 'unclosed secret", "unclosed secret"),
        ("Set-Cookie: session=abc123", "session=abc123"),
        ("aws_secret_access_key = wJalrXUtn/FEMI", "wJalrXUtn/FEMI"),
        ("postgres://user:pass@host/db", "pass"),
        ("postgres://user:p@ss/w:rd@host/db", "p@ss/w:rd"),
        ("postgres//u:hunter2@h/db", "hunter2"),
        ("redis://:hunter2@cache:6379", "hunter2"),
        ("https://mytokenvalue@github.com/x", "mytokenvalue"),
        ("http://a/b,postgres://u:hunter2@h", "hunter2"),
        ("postgres://u:" + "x" * 2_000 + "@h", "xxx"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut off", "MIIE"),
    ],
)
def test_masks(text: str, secret: str) -> None:
    found = redact_text(f"before {text} after")
    assert secret not in found
    assert MASK in found
    assert found.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "basic training of bearers",
        "max_tokens=5, input_tokens: 4, token_count: 12, tokenizer=cl100k",
        "password authentication failed for user bob",
        "see http://host:8080/path?a=b and mail me@example.com",
        "a risk-free task-list with sk-1",
        "KeyError: 'problem'",
        "eyJust a word.",
    ],
)
def test_leaves_the_rest(text: str) -> None:
    assert redact_text(text) == text


def test_keeps_what_stands_around_a_secret() -> None:
    assert redact_text("connect to postgres://u:p@db:5432/x failed") == f"connect to postgres://{MASK}@db:5432/x failed"
    assert redact_text('{"api_key": "x", "a": 1}') == f'{{"api_key": {MASK}, "a": 1}}'


@given(st.text())
def test_masking_twice_adds_nothing_that_was_hidden(text: str) -> None:
    redact_text(redact_text(text))


# Every piece makes some pattern start again and again without ever matching. Anything quadratic takes hours, not seconds,
# and dies of pytest's own timeout.
@pytest.mark.parametrize(
    "piece",
    [
        "//", "//x:", "a://", "//a:@", "//x:/", "//:/@", "eyJ-", "eyJa.", "eyJaaaa.", "bearer ", "basic a", "bearer  ", "sk-", "sk_", "password",
        "password=", 'password="', "password='\\", 'password:\\"', "password:\\", "token ", "A", "AKIA", "AKIA" + "A" * 15, "hf_", "secret_key",
        "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----END ", "api-key", "api key   ", "\\", '"', "'", "a", "1", " ", "-", "_", "/", ":", "@",
    ],
)  # fmt: skip
def test_a_megabyte_of_anything_is_linear(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    assert len(redact_text(text)) <= 3 * len(text)


@pytest.mark.parametrize(
    "key",
    [
        "api_key", "apiKey", "x-api-key", "OPENAI_API_KEY", "authorization", "Authorization", "password", "db_passwd", "passphrase", "pwd",
        "secret", "client_secret", "token", "access_token", "authToken", "refresh-token", "auth_tokens", "cookie", "Set-Cookie", "credential",
        "credentials", "private_key", "aws_access_key_id", "auth", "bearer",
    ],
)  # fmt: skip
def test_masks_values_of_telling_keys(key: str) -> None:
    assert redact_keys({key: "x", "other": 1}) == {key: MASK, "other": 1}
    assert redact_keys([{"a": ({key: {"deep": "x"}},)}]) == [{"a": [{key: MASK}]}]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_tokens", 5),
        ("max_tokens", 5),
        ("max_tokens", "5"),
        ("token_count", 5),
        ("token_usage", {"a": 1}),
        ("tokenizer", "cl100k"),
        ("reasoning_token", 5),
        ("author", "me"),
        ("user_id", "u"),
        ("monkey", "x"),
        ("password", None),
        (5, "x"),
    ],
)
def test_leaves_values_of_other_keys(key: Any, value: Any) -> None:
    assert redact_keys({key: value}) == {key: value}


def test_numeric_passwords_are_masked() -> None:
    assert redact_keys({"password": 1234}) == {"password": MASK}


def test_the_given_value_is_not_changed() -> None:
    value = {"a": [{"token": "x"}]}
    redact_keys(value)
    assert value == {"a": [{"token": "x"}]}


@pytest.mark.parametrize("value", [None, 5, "text", b"x", {1, 2}])
def test_other_values_pass(value: Any) -> None:
    assert redact_keys(value) is value


def test_cycles_and_shared_values_end() -> None:
    cyclic: dict[str, Any] = {"token": "x"}
    cyclic["self"] = [cyclic, cyclic]
    masked = redact_keys(cyclic)
    assert masked["token"] == MASK
    assert masked["self"][0] is masked
    shared: Any = {"token": "x"}
    for _ in range(60):
        shared = [shared, shared]
    assert redact_keys(shared) is not None


def test_what_is_too_deep_is_masked_whole() -> None:
    value: Any = {"plain": "kept secret"}
    for _ in range(10_000):
        value = [value]
    assert "kept" not in str(redact_keys(value))
