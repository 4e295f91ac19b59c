"""A link that takes messages, as queues and sessions see it."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tests.brokers.servicebus.locks import Lock
    from tests.brokers.servicebus.sessions import Session


class Receiver(Protocol):
    """`deletes`: what it is handed is gone, without a lock."""

    @property
    def deletes(self) -> bool: ...
    @property
    def credit(self) -> int: ...
    def hand(self, wire: bytes, lock: "Lock | None") -> None: ...
    def granted(self, session: "Session") -> None:
        """It holds this session now."""

    def waited_in_vain(self) -> None:
        """No session was free in its time."""

    def session_lost(self) -> None:
        """It did not renew in time."""
