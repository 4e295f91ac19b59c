"""Messages of the investsuite dialect for its tests, and what becomes of them."""

import json
from typing import Any

import pytest

from investbus.dialects.investsuite import decode
from investbus.errors import DecodeError
from investbus.event import Envelope

FIELDS: dict[str, Any] = {"id": "e1", "version": "1.0.0", "subject": "portfolios", "action": "creation", "data": {"id": "P1"}}


def body(**changed: Any) -> bytes:
    """A message with some fields changed; `...` takes one away."""
    return json.dumps({name: value for name, value in (FIELDS | changed).items() if value is not ...}).encode()


def with_data(text: str) -> bytes:
    """A message whose `data.x` is this JSON text."""
    return body(data=None).replace(b"null", f'{{"x":{text}}}'.encode())


def decoded(message: bytes) -> Envelope:
    (envelope,) = decode(message, {})
    return envelope


def refusal(message: bytes) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        decode(message, {})
    return caught.value.reason, str(caught.value)
