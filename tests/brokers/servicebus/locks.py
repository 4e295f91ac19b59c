"""Who may settle a message, and until when."""

import heapq
import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from tests.brokers.servicebus.message import Message

if TYPE_CHECKING:
    from tests.brokers.servicebus.sessions import Session


class Lock:
    """One delivery's claim on a message. In a session it lasts as long as the session's own lock."""

    __slots__ = ("message", "session", "token", "until")

    def __init__(self, message: Message, until: float, session: "Session | None") -> None:
        self.message = message
        self.session = session
        self.until = until
        # The delivery tag, 16 bytes of a uuid to the client. The engine's binding reads tags as text, so they are ASCII.
        self.token = os.urandom(8).hex()


class LockTable:
    """The locks of one queue. A token that is not in it is lost: expired, settled, or never given."""

    def __init__(self) -> None:
        self._locks: dict[str, Lock] = {}
        self._due: list[tuple[float, str]] = []  # a heap; an entry may be too early, never too late

    def __len__(self) -> int:
        return len(self._locks)

    def take(self, message: Message, until: float) -> Lock:
        """Lock a message until it is settled, or until then."""
        lock = self._keep(Lock(message, until, None))
        heapq.heappush(self._due, (until, lock.token))
        return lock

    def take_in(self, session: "Session", message: Message) -> Lock:
        return self._keep(Lock(message, float("inf"), session))

    def renew(self, token: str, until: float) -> bool:
        """Whether it was there to be renewed."""
        lock = self._locks.get(token)
        if lock is None or lock.session is not None:
            return False
        if until < lock.until:
            heapq.heappush(self._due, (until, token))
        lock.until = until
        return True

    def release(self, token: str) -> Lock | None:
        """End the lock; None if it is lost."""
        lock = self._locks.pop(token, None)
        if lock is not None:
            lock.message.lock = None
        return lock

    def release_all(self, session: "Session | None" = None) -> list[Lock]:
        """End all locks of a session, or those of none, as if they had expired."""
        ended = [lock for lock in self._locks.values() if lock.session is session]
        for lock in ended:
            self.release(lock.token)
        return ended

    def release_those(self, sequences: Collection[int]) -> list[Lock]:
        """End the locks of these messages, as if they had expired."""
        ended = [lock for lock in self._locks.values() if lock.message.sequence in sequences]
        for lock in ended:
            self.release(lock.token)
        return ended

    def expire(self, now: float) -> list[Lock]:
        """End and return the locks whose time is over."""
        ended = []
        while self._due and self._due[0][0] <= now:
            token = heapq.heappop(self._due)[1]
            lock = self._locks.get(token)
            if lock is None:
                continue
            if lock.until > now:
                heapq.heappush(self._due, (lock.until, token))
                continue
            self.release(token)
            ended.append(lock)
        return ended

    def _keep(self, lock: Lock) -> Lock:
        self._locks[lock.token] = lock
        lock.message.lock = lock
        return lock
