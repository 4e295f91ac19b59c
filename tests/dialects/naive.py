"""The rules of the investsuite dialect once more, written so plainly that they can be read as the rules: slow, with recursion."""

import json
import sys
import unicodedata
from decimal import Decimal, InvalidOperation
from typing import Any, Never

from investbus.event import Envelope

Refusal = str  # the reason: encoding, json, envelope or version


class Refused(Exception):
    """Not JSON, for a reason of ours."""


def decode(body: bytes) -> Envelope | Refusal:
    """What `body` says, or why it says nothing."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return "encoding"
    if depth(text) > 32:
        return "json"
    try:
        found = json.loads(text, parse_float=number, parse_int=integer, parse_constant=constant, object_pairs_hook=fields)
        refuse_surrogates(found)
    except (Refused, json.JSONDecodeError):
        return "json"
    if not isinstance(found, dict):
        return "envelope"
    for field in ("id", "version", "subject", "action"):
        word = found.get(field)
        if not isinstance(word, str) or not word or len(word) > 200:
            return "envelope"
        if any(unicodedata.category(character) == "Cc" for character in word):
            return "envelope"
    if "." in found["subject"] or "." in found["action"] or not isinstance(found.get("data", {}), dict):
        return "envelope"
    if found["version"].split(".")[0] != "1":
        return "version"
    created = found.get("created")
    if created is not None and not isinstance(created, str):
        created = "(some JSON text)"
    return Envelope(found["id"], found["version"], found["subject"], found["action"], found.get("data", {}), created or "")


def depth(text: str) -> int:
    """How deep brackets are nested, as far as the text goes."""
    deepest = now = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped or character == "\\":
                escaped = not escaped
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            now += 1
            deepest = max(deepest, now)
        elif character in "}]":
            now -= 1
    return deepest


def number(text: str) -> Decimal:
    try:
        decimal = Decimal(text)
    except InvalidOperation:
        raise Refused from None
    if not -999_999 <= decimal.adjusted() <= 999_999:
        raise Refused
    return decimal


def integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= sys.int_info.default_max_str_digits else number(text)


def constant(name: str) -> Never:
    raise Refused


def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Here doubled fields are still both there."""
    for name, value in pairs:
        refuse_surrogates(name)
        refuse_surrogates(value)
    return dict(pairs)


def refuse_surrogates(value: Any) -> None:
    if isinstance(value, str) and any(unicodedata.category(character) == "Cs" for character in value):
        raise Refused
    if isinstance(value, list):
        for item in value:
            refuse_surrogates(item)
