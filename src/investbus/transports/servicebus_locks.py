"""The locks of one receiver, and the lease of each.

A lease for each message, so that one lost lock costs nobody else; a session is locked as a whole and has one. A lease whose
message was settled serves the next one: whoever watches leases then knows no more of them than a window has places.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from azure.servicebus import ServiceBusReceivedMessage

from investbus.transport import Lease

RENEW_AT = 2 / 3  # of what is left of a lock
RENEW_AGAIN = 1.0  # seconds after a renewal that was not answered


class Lock(msgspec.Struct, eq=False):
    """Of a message or of a session. Times are those of the event loop."""

    lease: Lease
    message: ServiceBusReceivedMessage | None  # None: a session's
    until: float = 0.0
    renew_at: float = 0.0


class Locks:
    """`lease` makes a new lease."""

    def __init__(self, lease: Callable[[], Lease]) -> None:
        self._lease = lease
        self._locks: set[Lock] = set()
        self._spare: list[Lease] = []
        self._now = asyncio.get_running_loop().time
        self._next = float("inf")  # nothing is due before

    @property
    def leases(self) -> list[Lease]:
        return [lock.lease for lock in self._locks] + self._spare

    def add(self, message: ServiceBusReceivedMessage | None, until: datetime | None) -> Lock:
        """A lock that has just been given to us; `until` is the service's word, and counts by the clock of this machine."""
        lock = Lock(self._spare.pop() if self._spare else self._lease(), message)
        self._locks.add(lock)
        self.renewed(lock, until)
        return lock

    def renewed(self, lock: Lock, until: datetime | None) -> None:
        left = 0.0 if until is None else (until - datetime.now(UTC)).total_seconds()
        lock.until, lock.renew_at = self._now() + left, self._now() + left * RENEW_AT
        self._next = min(self._next, lock.renew_at)

    def unanswered(self, lock: Lock) -> None:
        """Nobody said whether it was renewed."""
        lock.renew_at = self._now() + RENEW_AGAIN
        self._next = min(self._next, lock.renew_at)

    def has_ended(self, lock: Lock) -> bool:
        """Whether its time is over, for all that is known here."""
        return lock.until <= self._now()

    def due(self) -> list[Lock]:
        """Those to be renewed now, the most urgent first."""
        now = self._now()
        if now < self._next:
            return []
        due = sorted((lock for lock in self._locks if lock.renew_at <= now), key=lambda lock: lock.until)
        self._next = min((lock.renew_at for lock in self._locks), default=float("inf"))
        return due

    def __contains__(self, lock: Lock) -> bool:
        return lock in self._locks

    def free(self, lock: Lock) -> None:
        """Its message was settled."""
        self._locks.discard(lock)
        self._spare.append(lock.lease)

    def lose(self, lock: Lock) -> None:
        self._locks.discard(lock)
        lock.lease.lose()

    def forget(self) -> None:
        """There will be no next message."""
        for lease in self._spare:
            lease.lose()
        self._spare.clear()
