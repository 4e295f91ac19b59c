"""Sessions of one queue: each is held by one receiver at a time, and only that one gets its messages.

A receiver asks for a session by its id, or for the next that is free and has messages; then it waits. It holds the session until
it leaves, or until it has not renewed the session's lock in time.
"""

import heapq
from collections.abc import Callable

from tests.brokers.servicebus.message import Message
from tests.brokers.servicebus.receiver import Receiver


class Session:
    """`messages` are those that nobody has a lock on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: list[Message] = []  # a heap
        self.state: bytes | None = None
        self.holder: Receiver | None = None
        self.until = 0.0  # when the holder loses it


Hand = Callable[[Receiver, Message, Session], None]


class Sessions:
    """Those of one queue. There may be thousands, so nothing here looks at all of them."""

    def __init__(self, lock_seconds: float) -> None:
        self._lock_seconds = lock_seconds
        self._sessions: dict[str, Session] = {}
        self._held: dict[Receiver, Session] = {}
        self._free: dict[str, Session] = {}  # has messages and no holder; one that became empty is still in it
        self._waiting: dict[Receiver, float] = {}  # and until when, first come first

    def named(self, name: str) -> Session:
        """A session is there as soon as it is spoken of."""
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = Session(name)
        return session

    def of(self, message: Message) -> Session:
        return self.named(message.content.session or "")

    def put(self, message: Message) -> None:
        session = self.of(message)
        heapq.heappush(session.messages, message)
        if session.holder is None:
            self._free[session.name] = session

    def accept(self, name: str, holder: Receiver, now: float) -> bool:
        """False if somebody else holds it."""
        session = self.named(name)
        if session.holder is not None:
            return False
        self._grant(session, holder, now)
        return True

    def wait_for_next(self, holder: Receiver, until: float) -> None:
        self._waiting[holder] = until

    def leave(self, holder: Receiver) -> Session | None:
        """Give back what it held, if anything."""
        self._waiting.pop(holder, None)
        session = self._held.get(holder)
        if session is not None:
            self._release(session)
        return session

    def renew(self, name: str, now: float) -> float | None:
        """Until when it is held from now on; None if nobody holds it."""
        session = self.named(name)
        if session.holder is None:
            return None
        session.until = now + self._lock_seconds
        return session.until

    def end_waits(self, now: float) -> None:
        for holder in [holder for holder, until in self._waiting.items() if until <= now]:
            del self._waiting[holder]
            holder.waited_in_vain()

    def expire(self, now: float) -> list[Session]:
        """The sessions that were held for too long, and are free now."""
        lost = [(holder, session) for holder, session in self._held.items() if session.until <= now]
        for holder, session in lost:
            self._release(session)
            holder.session_lost()
        return [session for _, session in lost]

    def dispatch(self, now: float, hand: Hand) -> None:
        """Give free sessions to those who wait, and messages to those who hold."""
        while self._waiting and self._free:
            session = self._free.pop(next(iter(self._free)))
            if session.messages:
                holder = next(iter(self._waiting))
                del self._waiting[holder]
                self._grant(session, holder, now)
        for holder, session in tuple(self._held.items()):
            while session.messages and session.holder is holder and holder.credit > 0:
                hand(holder, heapq.heappop(session.messages), session)

    def _grant(self, session: Session, holder: Receiver, now: float) -> None:
        self._free.pop(session.name, None)
        session.holder = holder
        session.until = now + self._lock_seconds
        self._held[holder] = session
        holder.granted(session)

    def _release(self, session: Session) -> None:
        if session.holder is not None:
            del self._held[session.holder]
        session.holder = None
        if session.messages:
            self._free[session.name] = session
