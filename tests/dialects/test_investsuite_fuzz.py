"""Any bytes whatever, and JSON that is nearly right: always an answer, and the same one as the naive model gives."""

import json
from decimal import Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from investbus.dialects.investsuite import decode
from investbus.errors import DecodeError
from investbus.event import Envelope
from tests.dialects import naive

thorough = settings(max_examples=300, deadline=None)  # a busy machine is no failure

VALID = (
    '{"id":"e1","created":"2026-11-21T09:01:02Z","version":"1.0.0","subject":"portfolios","action":"status-update",'
    '"data":{"id":"P1","value":"ACTIVE","fee":-12.50,"more":[{"n":1e100},"{[\\"","é\\u00e9\\ud83d\\ude00",true,null]}}'
)
TOKENS = [
    *'{}[],:"\\ -.0123456789eE+\n\t\x00\x7f\x85é\ud800\ufeff',
    *('"id"', '"version"', '"subject"', '"action"', '"data"', '"created"', '"x"', '""', '"1.0"', '"2"', '"a.b"', '"a\\n"'),
    *("true", "false", "null", "NaN", "-Infinity", "1e400", "1e1000000", "1e999999", "-0", "0.10", "01", "1e9999999999999999999"),
    *('"\\ud800"', '"\\ud83d\\ude00"', '"\\udc00\\ud800"', '"{"', '"[["', '"\\\\"', '"\\"', "[" * 30, "]" * 30, "9" * 4301),
    *('"id":"e"', '"version":"1.0.0"', '"subject":"s"', '"action":"a"', '"data":{}', '"created":1.50', '"x":[]', '"data":null'),
]
NUMBERS = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,7})?", fullmatch=True),
    st.integers(4_290, 5_000).map(lambda digits: "7" * digits),
)
STRINGS = st.one_of(st.text(max_size=8), st.sampled_from(["{", "[[[", '"', "\\", "\\\\", '\\"', "\u2028", "😀"])).map(json.dumps)
SCALARS = st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"]))
BLANKS = st.sampled_from(["", "", " ", "\n\t"])


@st.composite
def containers(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    """An object (with doubled fields, perhaps) or an array, as text."""
    values = draw(st.lists(inner, max_size=4))
    blank = draw(BLANKS)
    if draw(st.booleans()):
        return f"[{blank}{f',{blank}'.join(values)}]"
    names = [draw(st.sampled_from(['"a"', '"b"', '"{"', '"\\u00e9"'])) for _ in values]
    return "{" + f",{blank}".join(f"{name}{blank}:{value}" for name, value in zip(names, values, strict=True)) + blank + "}"


VALUES = st.recursive(SCALARS, containers, max_leaves=12)
WORDS = ['"e1"', '"1"', '"1.2"', '"01"', '"2.0"', '"v1"', '"s"', '""', '"a.b"', '"a\\u0000"', '"\u00a0"', "1", f'"{"x" * 201}"']
FIELDS = {"id": '"e1"', "version": '"1.0.0"', "subject": '"s"', "action": '"a"', "created": '"c"', "data": '{"id":"P"}'}


def odd_value(field: str) -> st.SearchStrategy[str]:
    """For `data` mostly an object, for the words mostly a word."""
    match field:
        case "data":
            return st.one_of(VALUES.map(lambda value: f'{{"x":{value}}}'), VALUES)
        case "created" | "other":
            return VALUES
        case _:
            return st.sampled_from([*WORDS, FIELDS[field], FIELDS[field]])


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    """Objects with the fields of an envelope: some changed, missing, doubled or unknown, in any order."""
    written = list(FIELDS.items())
    for name in draw(st.lists(st.sampled_from([*FIELDS, "data", "created", "other"]), max_size=3)):
        match draw(st.sampled_from(["set", "set", "add", "add", "drop"])):
            case "set":
                written = [(field, draw(odd_value(name)) if field == name else value) for field, value in written]
            case "add":
                written.append((name, draw(odd_value(name))))
            case _:
                written = [(field, value) for field, value in written if field != name]
    order = draw(st.permutations(written))
    return ("{" + ",".join(f'"{name}":{draw(BLANKS)}{value}' for name, value in order) + "}").encode()


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid message after a few accidents."""
    body = bytearray(VALID.encode())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.sampled_from([0, 0, 1, 1, 2, 10])))
        replacement = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from(TOKENS).map(encoded), st.just(bytes(body[start:end]) * 2))
        )
        body[start:end] = replacement
    return bytes(body)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def answer(body: bytes) -> Envelope | str:
    """What the dialect makes of `body`; anything but an envelope or a DecodeError is a failure of the test."""
    try:
        (envelope,) = decode(body, {})
    except DecodeError as refused:
        said = refused
    else:
        return envelope
    assert str(said)
    assert "\n" not in str(said)
    return said.reason


def agree(body: bytes) -> None:
    real, simple = answer(body), naive.decode(body)
    if isinstance(real, Envelope) and isinstance(simple, Envelope) and simple.created == "(some JSON text)":
        assert json.loads(real.created, parse_int=str, parse_float=str) == last_created(body)
        real = Envelope(real.id, real.version, real.subject, real.action, real.data, simple.created)
    assert real == simple
    if isinstance(real, Envelope) and isinstance(simple, Envelope):
        assert digits(real.data) == digits(simple.data)


def last_created(body: bytes) -> Any:
    return json.loads(body.decode(), parse_int=str, parse_float=str)["created"]


def digits(value: Any) -> Any:
    """Like `value`, but numbers as text: equal numbers with other digits are told apart."""
    match value:
        case dict():
            return {name: digits(item) for name, item in value.items()}
        case list():
            return [digits(item) for item in value]
        case Decimal():
            return f"Decimal {value}"
        case _:
            return (type(value), value)


@thorough
@given(st.binary(max_size=60))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"\xff\xfe{\x00}\x00")
@example(b"{\x00}\x00")
def test_any_bytes_get_an_answer(body: bytes) -> None:
    agree(body)


@thorough
@given(st.lists(st.sampled_from(TOKENS).map(encoded), max_size=40).map(b"".join))
@example(b'{"x":"\\ud800","x":1,"id":"e","version":"1","subject":"s","action":"a"}')
@example(b'"\\ud800"')
@example(b'{"id":1,"id":"e","version":"1","subject":"s","action":"a","created":"c","created":[1]}')
def test_json_like_text_gets_the_answer_of_the_model(body: bytes) -> None:
    agree(body)


@thorough
@given(mutations())
def test_a_damaged_message_gets_the_answer_of_the_model(body: bytes) -> None:
    agree(body)


@thorough
@given(envelopes())
def test_an_odd_envelope_gets_the_answer_of_the_model(body: bytes) -> None:
    agree(body)


@thorough
@given(
    st.lists(
        st.sampled_from(['"', "\\", "{", "}", "[", "]", "x", '"{"', "[[[[[[", "{{{{{{{{", "]]]]", "}}}}}}}}"]), min_size=5
    ).map("".join)
)
def test_brackets_in_strings_do_not_count(text: str) -> None:
    agree(f'{{"id":"e","version":"1","subject":"s","action":"a","data":{{"x":{text}}}}}'.encode())
    agree(f'{{"id":"e","version":"1","subject":"s","action":"a","data":{{"x":{json.dumps(text)}}}}}'.encode())


@thorough
@given(NUMBERS)
def test_numbers_keep_their_digits(text: str) -> None:
    body = f'{{"id":"e","version":"1","subject":"s","action":"a","data":{{"x":{text}}}}}'
    for odd in (body, body.replace('"id"', '"unknown":0,"id"')):  # the fast way, and the slow one
        real = answer(odd.encode())
        if isinstance(real, str):
            assert abs(Decimal(text).adjusted()) > 999_999
        elif isinstance(real.data["x"], Decimal):
            assert real.data["x"].as_tuple() == Decimal(text).as_tuple()
        else:
            assert str(real.data["x"]) == ("0" if text == "-0" else text)
