"""A queue, a subscription, or the dead letters of one: who gets which message, and what becomes of it.

Nothing here knows of the network, and time comes from `now`, so the rules can be tried against a simpler model.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import NamedTuple

from tests.brokers.servicebus.journal import Failed, Gone, Journal, StateSet, Stored
from tests.brokers.servicebus.locks import Lock, LockTable
from tests.brokers.servicebus.message import Content, Message
from tests.brokers.servicebus.receiver import Receiver
from tests.brokers.servicebus.sessions import Session, Sessions
from tests.brokers.servicebus.settings import Properties

DEAD_LETTERS = "/$DeadLetterQueue"


class Outcome(StrEnum):
    """What a receiver decides about a message that it has locked."""

    COMPLETED = "completed"
    ABANDONED = "abandoned"
    RELEASED = "released"
    DEAD_LETTERED = "dead-lettered"


class Surroundings(NamedTuple):
    """What all queues of a namespace share."""

    journal: Journal
    now: Callable[[], float]
    wake: Callable[["Queue"], None]  # this queue may have something to hand out


class Queue:
    """`dead` is where its dead letters go; a queue of dead letters has none, and never gives up on a message."""

    def __init__(self, name: str, properties: Properties, around: Surroundings, *, dead: "Queue | None") -> None:
        self.name = name
        self.properties = properties
        self.dead = dead
        self.lock_seconds = properties.lock_duration.total_seconds()
        self.locks = LockTable()
        self.sessions = Sessions(self.lock_seconds) if properties.requires_session else None
        self.messages: dict[int, Message] = {}  # all that is here, locked or not, by sequence number
        self.counts: Counter[str] = Counter()  # since the start: deliveries, outcomes, renewals, ...
        self._around = around
        self._ready: list[Message] = []  # a heap: not locked, and in no session
        self._receivers: deque[Receiver] = deque()
        self._mortal: list[tuple[float, int]] = []  # a heap of when messages expire
        self.last = 0  # the highest sequence number that was given

    def put(self, content: Content) -> None:
        """A new message; it is in the journal when this returns."""
        if self.sessions is not None and content.session is None and self.dead is not None:
            self.dead.put(content.dead("Session id is null.", "An entity that requires sessions takes no message without one."))
            return
        message = Message(content, self.last + 1, self._around.now())
        self._around.journal.append(Stored(self.name, message.sequence, message.enqueued, message.wire()))
        self.counts["sent"] += 1
        self.restore(message)

    def restore(self, message: Message) -> None:
        """Take up a message that is in the journal already."""
        self.last = max(self.last, message.sequence)
        self.messages[message.sequence] = message
        default = self.properties.default_message_time_to_live
        lifetimes = [message.content.ttl, default.total_seconds() if default else None]
        given = [seconds for seconds in lifetimes if seconds is not None]
        if given:
            message.expires = message.enqueued + min(given)
            heapq.heappush(self._mortal, (message.expires, message.sequence))
        self._shelve(message)

    def add(self, receiver: Receiver) -> None:
        self._receivers.append(receiver)
        self._around.wake(self)

    def leave(self, receiver: Receiver) -> None:
        """It has gone. Its messages stay locked, but those of its session are free at once, as if never delivered."""
        if receiver in self._receivers:
            self._receivers.remove(receiver)
        session = self.sessions.leave(receiver) if self.sessions is not None else None
        if session is not None:
            for lock in self.locks.release_all(session):
                self._lay_out(lock.message)
            self._around.wake(self)  # somebody may wait for this very session

    def dispatch(self) -> None:
        """Hand out what there is to those who have credit, in turns."""
        if self.sessions is not None:
            self.sessions.dispatch(self._around.now(), self._hand)
            return
        refused = 0
        while self._ready and refused < len(self._receivers):
            receiver = self._receivers[0]
            self._receivers.rotate(-1)
            if receiver.credit <= 0:
                refused += 1
                continue
            refused = 0
            self._hand(receiver, heapq.heappop(self._ready), None)

    def settle(self, token: str, outcome: Outcome, reason: str | None = None, description: str | None = None) -> bool:
        """False if the lock is lost: then nothing happens."""
        lock = self.locks.release(token)
        if lock is None:
            self.counts["lost"] += 1
            return False
        self.counts[outcome] += 1
        match outcome:
            case Outcome.COMPLETED: self._forget(lock.message)
            case Outcome.ABANDONED: self._fail(lock.message)
            case Outcome.RELEASED: self._lay_out(lock.message)
            case Outcome.DEAD_LETTERED: self._bury(lock.message, reason, description)
        return True

    def renew(self, token: str) -> float | None:
        """Until when it is locked from now on; None if the lock is lost."""
        until = self._around.now() + self.lock_seconds
        if not self.locks.renew(token, until):
            self.counts["lost"] += 1
            return None
        self.counts["renewed"] += 1
        return until

    def set_state(self, session: Session, state: bytes | None) -> None:
        self._around.journal.append(StateSet(self.name, session.name, state))
        session.state = state

    def tick(self) -> None:
        """Do what the clock demands: end locks and sessions, and take out what has lived too long."""
        now = self._around.now()
        self._expire(self.locks.expire(now))
        if self.sessions is not None:
            self.sessions.end_waits(now)
            self._expire_sessions(now)
        while self._mortal and self._mortal[0][0] <= now:
            message = self.messages.get(heapq.heappop(self._mortal)[1])
            if message is not None and message.lock is None:
                pile = self._ready if self.sessions is None else self.sessions.of(message).messages
                pile.remove(message)
                heapq.heapify(pile)
                self._perish(message)

    def expire_locks(self, sequences: Collection[int] = ()) -> int:
        """End the locks of these messages now, or all locks, those on sessions too; how many messages were locked."""
        if sequences:
            locks = self.locks.release_those(sequences)
            self._expire(locks)
            return len(locks)
        locked = len(self.locks)
        self._expire(self.locks.release_all(None))
        self._expire_sessions(float("inf"))
        return locked

    def _expire(self, locks: list[Lock]) -> None:
        for lock in locks:
            self.counts["expired"] += 1
            self._fail(lock.message)

    def _expire_sessions(self, now: float) -> None:
        for session in self.sessions.expire(now) if self.sessions is not None else ():
            self._expire(self.locks.release_all(session))

    def _hand(self, receiver: Receiver, message: Message, session: Session | None) -> None:
        self.counts["delivered"] += 1
        if receiver.deletes:
            receiver.hand(message.wire(), None)
            self._forget(message)
        elif session is not None:
            receiver.hand(message.wire(session.until), self.locks.take_in(session, message))
        else:
            lock = self.locks.take(message, self._around.now() + self.lock_seconds)
            receiver.hand(message.wire(lock.until), lock)

    def _shelve(self, message: Message) -> None:
        if self.sessions is None:
            heapq.heappush(self._ready, message)
        else:
            self.sessions.put(message)
        self._around.wake(self)

    def _lay_out(self, message: Message) -> None:
        """It is not locked any more."""
        if message.expires is not None and message.expires <= self._around.now():
            self._perish(message)
        else:
            self._shelve(message)

    def _fail(self, message: Message) -> None:
        message.count += 1
        self._around.journal.append(Failed(self.name, message.sequence, message.count))
        if self.dead is not None and message.count >= self.properties.max_delivery_count:
            tried = f"Message could not be consumed after {message.count} delivery attempts."
            self._bury(message, "MaxDeliveryCountExceeded", tried)
        else:
            self._lay_out(message)

    def _perish(self, message: Message) -> None:
        if self.properties.dead_lettering_on_message_expiration:
            self._bury(message, "TTLExpiredException", "The message expired and was dead lettered.")
        else:
            self._forget(message)

    def _bury(self, message: Message, reason: str | None, description: str | None) -> None:
        """To the dead letters first: a kill between the two leaves one too many, not none. A dead letter stays where it is."""
        if self.dead is None:
            self._lay_out(message)
            return
        self.dead.put(message.content.dead(reason, description))
        self._forget(message)

    def _forget(self, message: Message) -> None:
        self.messages.pop(message.sequence, None)
        self._around.journal.append(Gone(self.name, message.sequence))
