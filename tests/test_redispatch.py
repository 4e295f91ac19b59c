"""Whether a letter can run again is said, whatever the dialect of now makes of it."""

from collections.abc import Mapping

import pytest

from investbus.errors import DecodeError
from investbus.event import Envelope
from investbus.redispatch import Redispatch, Refused
from investbus.router import RouteTable
from tests.stores.letters import letter


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DecodeError("json", "canary"), "undecodable (json)"),
        (KeyError("canary"), "undecodable (the dialect failed with KeyError)"),
    ],
)
def test_a_dialect_that_fails_is_a_reason(error: Exception, reason: str) -> None:
    def decode(body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        raise error

    assert Redispatch(decode, RouteTable([])).event(letter(), done=False, again=False) == Refused(reason)
