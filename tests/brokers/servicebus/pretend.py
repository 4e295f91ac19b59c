"""A message, a link and a clock that are not real, for the rules without a network."""

from tests.brokers.servicebus.codec import string
from tests.brokers.servicebus.locks import Lock
from tests.brokers.servicebus.message import Content
from tests.brokers.servicebus.sessions import Session


def content(text: str, session: str | None = None) -> Content:
    """A message with this body, and if need be in this session."""
    fields = b"" if session is None else b"\x40" * 10 + string(session)
    properties = b"" if session is None else b"\x00\x53\x73\xc0" + bytes((len(fields) + 1, 11)) + fields
    return Content(properties + b"\x00\x53\x77" + string(text))


class Hands:
    """A receiver that keeps what it gets."""

    deletes = False

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.locks: list[Lock] = []
        self.told: list[str] = []

    def hand(self, wire: bytes, lock: Lock | None) -> None:
        self.credit -= 1
        assert lock is not None
        self.locks.append(lock)

    def granted(self, session: Session) -> None:
        self.told.append(session.name)

    def waited_in_vain(self) -> None:
        self.told.append("in vain")

    def session_lost(self) -> None:
        self.told.append("lost")


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time
