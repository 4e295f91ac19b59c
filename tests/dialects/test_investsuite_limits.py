"""How deep, how long and how large: what a message may hold, and what reading it may cost."""

import json
import time
from contextlib import suppress
from decimal import Decimal

import pytest
from pydantic import BaseModel, TypeAdapter

from investbus.dialects.investsuite import decode
from investbus.errors import DecodeError
from tests.bench.decode import HOSTILE, MEGABYTE
from tests.dialects.messages import body, decoded, refusal, with_data


def nested(depth: int) -> str:
    """A value that makes a message, as a field of its data, nested so deep; objects and arrays by turns."""
    opened = ["[" if level % 2 else '{"a":' for level in range(depth - 2)]
    closed = ["]" if level % 2 else "}" for level in reversed(range(depth - 2))]
    return "".join((*opened, "1", *closed))


# ---- nesting


@pytest.mark.parametrize("beside", ["0", "[[]]", json.dumps([[]] * 40), json.dumps(["["] * 40), '{"\\\\":"\\\\"}'])
def test_nesting_up_to_32_is_taken_and_33_refused(beside: str) -> None:
    for text in ('{nested},"y":{beside}', '{beside},"y":{nested}'):
        taken, refused = (text.replace("{beside}", beside).replace("{nested}", nested(depth)) for depth in (32, 33))
        assert decoded(with_data(taken)).id == "e1"
        assert refusal(with_data(refused)) == ("json", "nested deeper than 32, or brackets that do not match")


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
