"""The messages of InvestSuite: one JSON object per message, `{id, created, version, subject, action, data}`.

Bytes from a bus can be anything. Whatever they are, reading them costs time in proportion to their length and ends in an envelope
or in a DecodeError. Two things make that more than a call of a parser: parsers recurse, so nesting is measured before one sees
the message; and parsers give up on numbers that are too long for them, so what the fast one refuses is read a second time by one
that keeps every digit.
"""

import json
import re
import sys
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Never

import msgspec

from investbus.errors import DecodeError
from investbus.event import Envelope

MAX_DEPTH = 32  # the envelope is 1
MAX_LENGTH = 200  # characters of id, version, subject, action
MAX_EXPONENT = 999_999  # what decimal's default context can compute with; and int(Decimal("1e999999999")) takes all memory
MAX_INTEGER = sys.int_info.default_max_str_digits  # digits from which on integers are kept as Decimal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))


def decode(body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
    """The event of one message. Raises DecodeError: first for its encoding, then json, envelope, version."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise DecodeError("encoding", f"not UTF-8 at byte {error.start}") from None
    if _too_deep(body):
        raise DecodeError("json", f"nested deeper than {MAX_DEPTH}, or brackets that do not match")
    try:
        found = _fast(body)
    except msgspec.DecodeError:
        found = _exact(body)
    if not (0 < len(found.id) <= MAX_LENGTH and found.id.isprintable()):
        _require_word("id", found.id)
    _require_name(found.version, found.subject, found.action)
    return [Envelope(found.id, found.version, found.subject, found.action, found.data, found.created)]


# ---- nesting


def _too_deep(body: bytes) -> bool:
    """Whether brackets nest deeper than MAX_DEPTH; also true for some that do not match. Never recurses."""
    second = body.find(b"{", 1)
    if body.find(b"[") < 0 and body.find(b"{", second + 1) < 0:  # nearly every event: the envelope and flat data
        return False
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = b"".join(unescaped.translate(_AS_BRACES, _NO_BRACKETS).split(b'"')[::2])  # every other piece is a string
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"{}", b"")
    return brackets != b""


# ---- parsing


def exact(text: str) -> Decimal:
    """A JSON number with all of its digits. Raises DecodeError if a Decimal cannot hold it."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise _too_large() from None
    if abs(number.adjusted()) > MAX_EXPONENT:
        raise _too_large()
    return number


def _too_large() -> DecodeError:
    return DecodeError("json", f"a number above 1e{MAX_EXPONENT} or below 1e-{MAX_EXPONENT}")


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= (sys.get_int_max_str_digits() or MAX_INTEGER) else exact(text)


def _no_number(name: str) -> Never:
    raise DecodeError("json", f"{name} is not JSON")


class _Found(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The envelope as documented. Unknown fields are refused because they would be skipped, not looked at."""

    id: str
    version: str
    subject: str
    action: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)
    created: str = ""


class _Created(msgspec.Struct):
    created: msgspec.Raw


_fast = msgspec.json.Decoder(_Found, float_hook=exact).decode
_created_text = msgspec.json.Decoder(_Created).decode
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_slow = json.JSONDecoder(parse_float=exact, parse_int=_integer, parse_constant=_no_number).decode


def _exact(body: bytes) -> _Found:
    """The envelope with everything that the contract allows and the fast parser does not, or the reason why it is none."""
    try:
        found = _slow(body.decode())
    except json.JSONDecodeError as error:
        raise DecodeError("json", f"not JSON: {error}") from None
    try:
        _skim(body)
    except msgspec.DecodeError:
        raise DecodeError("json", "a string with half of a surrogate pair") from None
    if not isinstance(found, dict):
        raise DecodeError("envelope", "not an object")
    id, version, subject, action = (_word(found, field) for field in ("id", "version", "subject", "action"))
    data = found.get("data", {})
    if not isinstance(data, dict):
        raise DecodeError("envelope", "data is not an object")
    created = found.get("created")
    if created is None:
        created = ""
    elif not isinstance(created, str):
        created = bytes(_created_text(body).created).decode()
    return _Found(id, version, subject, action, data, created)


# ---- rules


def _word(found: dict[str, Any], field: str) -> str:
    word = found.get(field)
    if not isinstance(word, str):
        raise DecodeError("envelope", f"{field} is {'not a string' if field in found else 'missing'}")
    return word


def _require_word(field: str, word: str) -> None:
    if not word:
        raise DecodeError("envelope", f"{field} is empty")
    if len(word) > MAX_LENGTH:
        raise DecodeError("envelope", f"{field} is longer than {MAX_LENGTH} characters")
    if not word.isprintable() and (control := _CONTROL.search(word)):
        raise DecodeError("envelope", f"{field} has a control character at {control.start()}")


@lru_cache(maxsize=1024)
def _require_name(version: str, subject: str, action: str) -> None:
    """Cached, since a topic holds few names: each is looked at once. Refusals are not remembered."""
    for field, word in (("version", version), ("subject", subject), ("action", action)):
        _require_word(field, word)
    for field, word in (("subject", subject), ("action", action)):
        if "." in word:
            raise DecodeError("envelope", f"{field} has a dot, which is what stands between subject and action")
    if version.partition(".")[0] != "1":
        raise DecodeError("version", f"version {version!r}; this dialect reads 1")
