"""What the investsuite dialect takes and refuses, rule by rule."""

import json
import time
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from investbus.dialects import Dialect, investsuite
from investbus.dialects.investsuite import decode
from investbus.errors import DecodeError
from investbus.event import Envelope
from tests.bench.decode import HOSTILE

FIELDS: dict[str, Any] = {"id": "e1", "version": "1.0.0", "subject": "portfolios", "action": "creation", "data": {"id": "P1"}}
MEGABYTE = 1 << 20


def body(**changed: Any) -> bytes:
    """A message with some fields changed; `...` takes one away."""
    return json.dumps({name: value for name, value in (FIELDS | changed).items() if value is not ...}).encode()


def with_data(text: str) -> bytes:
    """A message whose `data.x` is this JSON text."""
    return body(data=None).replace(b"null", f'{{"x":{text}}}'.encode())


def nested(depth: int) -> bytes:
    """A message nested so deep, the envelope counted; objects and arrays by turns."""
    opened = ["[" if level % 2 else '{"a":' for level in range(depth - 2)]
    closed = ["]" if level % 2 else "}" for level in reversed(range(depth - 2))]
    return with_data("".join((*opened, "1", *closed)))


def decoded(message: bytes) -> Envelope:
    (envelope,) = decode(message, {})
    return envelope


def refusal(message: bytes) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        decode(message, {})
    return caught.value.reason, str(caught.value)


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


def test_a_json_error_says_where() -> None:
    assert refusal(b'{"id": "e1",, ')[1].endswith("line 1 column 13 (char 12)")


@pytest.mark.parametrize(
    ("message", "reason"),
    [(b"[1,\xff", "encoding"), (b'{"id":1', "json"), (body(id=1, version="2"), "envelope"), (body(version="2"), "version")],
)
def test_the_first_reason_in_order_is_given(message: bytes, reason: str) -> None:
    assert refusal(message)[0] == reason


# ---- nesting


def test_nesting_up_to_32_is_taken_and_33_refused() -> None:
    assert decoded(nested(32)).id == "e1"
    assert refusal(nested(33)) == ("json", "nested deeper than 32, or brackets that do not match")


@pytest.mark.parametrize("text", ["[" * 100, "{" * 100, "\\" * 99, '\\" [[[[' * 50, "}]" * 50, "[{" * 40 + '\\\\"'])
def test_brackets_in_strings_are_not_nesting(text: str) -> None:
    assert decoded(body(data={text: text})).data == {text: text}


@pytest.mark.parametrize("count", [31, 40, 1000])
def test_many_brackets_side_by_side_are_not_nesting(count: int) -> None:
    assert decoded(body(data={"x": [[]] * count, "y": [{}] * count})).data["x"] == [[]] * count


@pytest.mark.parametrize("message", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"]" * 40 + b"[" * 40])
def test_no_parser_sees_what_is_nested_too_deep(message: bytes) -> None:
    assert refusal(message)[0] == "json"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_of_anything_is_read_in_no_time(name: str) -> None:
    """A parser or a search that is quadratic somewhere takes minutes for this."""
    message = HOSTILE[name](MEGABYTE)
    started = time.process_time()
    with suppress(DecodeError):
        decode(message, {})
    assert time.process_time() - started < 2.0


# ---- numbers


@pytest.mark.parametrize(
    "text", ["0.1000000000000000055511151231257827", "150.00", "-0.0", "1E+400", "1E-400", "1E+999999", "0E-7"]
)
def test_numbers_with_a_point_or_an_exponent_are_exact_decimals(text: str) -> None:
    for message in (with_data(text), with_data(f"[{text}]"), with_data(text).replace(b"{", b'{"unknown":[1],', 1)):
        value = decoded(message).data["x"]
        value = value[0] if isinstance(value, list) else value
        assert isinstance(value, Decimal)
        assert str(value) == text


@pytest.mark.parametrize("digits", [1, 19, 20, 25, 640, 4300])
def test_integers_are_integers(digits: int) -> None:
    for message in (with_data("7" * digits), with_data("7" * digits).replace(b"{", b'{"unknown":1,', 1)):
        assert type(decoded(message).data["x"]) is int
        assert str(decoded(message).data["x"]) == "7" * digits


@pytest.mark.parametrize("text", ["7" * 4301, "7" * 5000, "-" + "7" * 5000])
def test_integers_beyond_what_python_reads_are_exact_decimals(text: str) -> None:
    for message in (with_data(text), body(unknown=0)[:-2] + text.encode() + b"}"):
        data = decoded(message).data
        assert str(data.get("x", text)) == text


@pytest.mark.parametrize(
    "text",
    ["1e1000000", "1e-1000000", "12e999999", "1e9999999999999999999", "0e1000000", "7" * 1_000_001, "0e99999999999999999999"],
)
def test_a_number_that_decimal_cannot_compute_with_is_refused(text: str) -> None:
    for message in (with_data(text), body(unknown=0)[:-2] + text.encode() + b"}"):
        assert refusal(message) == ("json", "a number above 1e999999 or below 1e-999999")


def test_a_number_that_passes_does_not_stop_a_model_with_an_integer() -> None:
    """pydantic makes an `int` of a Decimal by writing all of it out: 1e999999999 would be 400 MB and minutes."""

    class Counted(BaseModel):
        x: int

    validate = TypeAdapter(Counted).validator.validate_python
    data = decoded(with_data("1e999999")).data
    started = time.process_time()
    assert validate(data).x.bit_length() > 3_000_000
    assert time.process_time() - started < 2.0
    assert refusal(with_data("1e999999999"))[0] == "json"


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
