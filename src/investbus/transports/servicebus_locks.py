"""The locks of one receiver, and the lease of each.

A lease for each message, so that one lost lock costs nobody else; a session is locked as a whole and has one. A lease whose
message was settled serves the next one: whoever watches leases then knows no more of them than a window has places.

The service says by its own clock until when a lock lasts. The clock of this machine may be wrong, so it decides when to ask, and
not by itself that a lock is lost.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from azure.servicebus import ServiceBusReceivedMessage

from investbus.transport import Lease

RENEW_AT = 2 / 3  # of what is left of a lock
SHORTEST, LONGEST = 5.0, 360.0  # seconds for which the service gives locks, and a minute for clocks that differ
RENEW_WITHIN = 20.0  # seconds at most: of how long a lock lasts a clock that is slow knows too much
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
        """A lock that has just been given to us; `until` is the service's word."""
        lock = Lock(self._spare.pop() if self._spare else self._lease(), message)
        self._locks.add(lock)
        self._lasts(lock, _left(until))
        return lock

    def renewed(self, lock: Lock, until: datetime | None) -> None:
        """The service has just said so: then it lasts at least as long as any, whatever our clock says."""
        left = _left(until)
        self._lasts(lock, left if left > 0.0 else SHORTEST)

    def _lasts(self, lock: Lock, left: float) -> None:
        if left > LONGEST:  # our clock is slow
            left = SHORTEST
        lock.until, lock.renew_at = self._now() + left, self._now() + min(left * RENEW_AT, RENEW_WITHIN)
        self._next = min(self._next, lock.renew_at)

    def unanswered(self, lock: Lock) -> None:
        """Nobody said whether it was renewed."""
        lock.renew_at = self._now() + RENEW_AGAIN
        self._next = min(self._next, lock.renew_at)

    def has_ended(self, lock: Lock) -> bool:
        """Whether its time is over by our clock."""
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


def _left(until: datetime | None) -> float:
    return 0.0 if until is None else (until - datetime.now(UTC)).total_seconds()
