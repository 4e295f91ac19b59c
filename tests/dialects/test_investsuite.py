"""What the investsuite dialect takes and refuses, rule by rule."""

from typing import Any

import pytest

from investbus.dialects import Dialect, investsuite
from investbus.event import Envelope
from tests.dialects.messages import body, decoded, refusal, with_data

MEGABYTE = 1 << 20


def test_the_module_is_a_dialect() -> None:
    dialect: Dialect = investsuite
    assert dialect.decode(body(), {}) == [Envelope("e1", "1.0.0", "portfolios", "creation", {"id": "P1"})]


# ---- encoding and json


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        body().decode().encode("utf-16"),
        with_data('"x"').replace(b"x", b"\xe9"),
        with_data('"x"').replace(b"x", b"\xed\xa0\x80"),  # a surrogate, encoded
        b"{" * MEGABYTE + b"\x80",
        body(unknown="x").replace(b'"x"', b'"\xc3"'),
    ],
)
def test_what_is_not_utf8_is_refused_for_its_encoding(message: bytes) -> None:
    reason, detail = refusal(message)
    assert reason == "encoding"
    assert detail.startswith("not UTF-8 at byte ")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b" ",
        b"null x",
        body()[:-1],
        body() + b"}",
        b"\xef\xbb\xbf" + body(),
        body().decode().encode("utf-16-le"),
        body().replace(b'"', b"'"),
        with_data("NaN"),
        with_data("-Infinity"),
        with_data("01"),
        with_data("1."),
        with_data("[1,]"),
        with_data('"\\q"'),
        with_data('"\\ud800"'),
        with_data('"\\udc00\\ud800"'),
        with_data('"\n"'),
        with_data('"\x00"'),
        body(unknown=1)[:-2] + b"NaN}",
        body(unknown="\ud800"),
        body(created="\ud800"),
        body(id="\ud800"),
        b'["\\ud800"]',
    ],
)
def test_what_is_not_json_is_refused(message: bytes) -> None:
    assert refusal(message)[0] == "json"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b'{"id": "e1",, ', "line 1 column 13 (char 12)"),
        (with_data("-Infinity"), "-Infinity is not JSON"),
        (with_data('"\\ud800"'), "a string with half of a surrogate pair"),
    ],
)
def test_a_json_error_says_what_or_where(message: bytes, said: str) -> None:
    assert refusal(message)[1].endswith(said)


@pytest.mark.parametrize(
    ("message", "reason"),
    [(b"[1,\xff", "encoding"), (b'{"id":1', "json"), (body(id=1, version="2"), "envelope"), (body(version="2"), "version")],
)
def test_the_first_reason_in_order_is_given(message: bytes, reason: str) -> None:
    assert refusal(message)[0] == reason


# ---- envelope


@pytest.mark.parametrize("message", [b"[]", b"1", b'"x"', b"null", b"true", b"7" * 5000, b"1.5"])
def test_what_is_no_object_is_no_envelope(message: bytes) -> None:
    assert refusal(message) == ("envelope", "not an object")


@pytest.mark.parametrize("field", ["id", "version", "subject", "action"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (..., "is missing"),
        (None, "is not a string"),
        (1, "is not a string"),
        (["x"], "is not a string"),
        ("", "is empty"),
        ("1" * 201, "is longer than 200 characters"),
        ("1\x00", "has a control character at 1"),
        ("1.\n", "has a control character at 2"),
        ("1\x7f", "has a control character at 1"),
        ("1\x85", "has a control character at 1"),
    ],
)
def test_a_word_of_the_envelope_that_is_none(field: str, value: Any, said: str) -> None:
    assert refusal(body(**{field: value})) == ("envelope", f"{field} {said}")


@pytest.mark.parametrize("word", ["1" * 200, "x y", "\u00a0\u200b", "é😀", "-"])
def test_other_words_are_taken(word: str) -> None:
    envelope = decoded(body(id=word, subject=word, action=word))
    assert (envelope.id, envelope.subject, envelope.action) == (word, word, word)


@pytest.mark.parametrize("field", ["subject", "action"])
def test_a_dot_in_subject_or_action_is_refused(field: str) -> None:
    assert refusal(body(**{field: "a.b"}))[0] == "envelope"
    assert decoded(body(id="a.b")).id == "a.b"


@pytest.mark.parametrize("data", [None, [], "x", 1, True])
def test_data_that_is_no_object_is_refused(data: Any) -> None:
    assert refusal(body(data=data)) == ("envelope", "data is not an object")


def test_missing_data_is_an_empty_object_of_its_own() -> None:
    first, second = decoded(body(data=...)), decoded(body(data=...))
    first.data["x"] = 1
    assert second.data == {}


@pytest.mark.parametrize("version", ["1", "1.", "1.0.0", "1.99.x"])
def test_major_one_is_taken(version: str) -> None:
    assert decoded(body(version=version)).version == version


@pytest.mark.parametrize("version", ["2.0.0", "0.1", "10.0", "01.0", "v1", "one", "-1", "1-beta", "¹", "\u0661", " 1", ".1"])
def test_another_major_is_refused(version: str) -> None:
    assert refusal(body(version=version)) == ("version", f"version {version!r}; this dialect reads 1")


# ---- what is forgiven


@pytest.mark.parametrize(
    ("created", "raw"),
    [
        ('"2026-11-21T09:01:02Z"', "2026-11-21T09:01:02Z"),
        ('"-1000000000-01-01T00:00:00Z"', "-1000000000-01-01T00:00:00Z"),
        ('"soon"', "soon"),
        ('""', ""),
        ("null", ""),
        ("1763715662.50", "1763715662.50"),
        ("1E5", "1E5"),
        ("9" * 5000, "9" * 5000),
        ("false", "false"),
        ("0", "0"),
        ('{"a" : [1, "é"]}', '{"a" : [1, "é"]}'),
    ],
)
def test_created_is_kept_as_it_came(created: str, raw: str) -> None:
    assert decoded(body(created=0).replace(b'"created": 0', f'"created": {created}'.encode())).created == raw


def test_missing_created_is_an_empty_text() -> None:
    assert decoded(body()).created == ""


def test_the_last_of_doubled_fields_counts() -> None:
    doubled = b'{"id":1,"created":1,"data":null,"version":"2",' + body(created="c")[1:-1] + b',"data":{"x":1,"x":2}}'
    assert decoded(doubled) == Envelope("e1", "1.0.0", "portfolios", "creation", {"x": 2}, "c")
    assert decoded(body(created="c")[:-1] + b',"created":1.50}').created == "1.50"


def test_unknown_fields_of_the_envelope_are_passed_over() -> None:
    assert decoded(body(trace={"a": [1]}, Id="x", tenant=None)) == decoded(body())


def test_white_space_around_the_message_is_nothing() -> None:
    assert decoded(b" \r\n\t" + body() + b"\n") == decoded(body())


def test_a_refusal_never_repeats_data() -> None:
    secret = "BE71096123456769"
    for text in (f'"{secret}', f'"{secret}\\q"', f"{secret}", f'"{secret}\\ud800"', f'["{secret}"', f'{{"{secret}":NaN}}'):
        assert secret not in refusal(with_data(text))[1]
    assert secret not in refusal(body(data=secret))[1]
