"""A link to a client that receives: deliveries out, decisions in."""

import os
from typing import TYPE_CHECKING, Any

from proton import Condition, Delivery, symbol

from tests.brokers.servicebus.faults import What
from tests.brokers.servicebus.locks import Lock
from tests.brokers.servicebus.queue import Outcome, Queue
from tests.brokers.servicebus.sessions import Session

if TYPE_CHECKING:
    from tests.brokers.servicebus.connection import Connection

MESSAGE_LOCK_LOST, SESSION_LOCK_LOST = "com.microsoft:message-lock-lost", "com.microsoft:session-lock-lost"
NOT_IMPLEMENTED = "amqp:not-implemented"
LOST = "The lock supplied is invalid. Either the lock expired, or the message has already been removed from the queue."
TICKS_OF_1970 = 621_355_968_000_000_000  # .NET counts 100 ns from the year 1
NOTHING_ELSE = {symbol("tracking-id"): "0"}  # the SDK reads the info of every error, and hangs if there is none


class Outgoing:
    """Of a session as soon as `granted` was called; until then it is not open."""

    def __init__(self, connection: "Connection", link: Any, path: str, queue: Queue, *, deletes: bool) -> None:
        self.path: str | None = path
        self.deletes = deletes
        self._connection = connection
        self._link = link
        self._queue = queue

    @property
    def credit(self) -> int:
        return int(self._link.credit)

    def hand(self, wire: bytes, lock: Lock | None) -> None:
        delivery = self._link.delivery(os.urandom(8).hex() if lock is None else lock.token)
        delivery.lock = lock
        self._link.stream(wire)
        self._link.advance()
        if lock is None:
            delivery.settle()
        self._connection.touch()

    def granted(self, session: Session) -> None:
        self._link.source.filter.clear()
        self._link.source.filter.put_dict({symbol("com.microsoft:session-filter"): session.name})
        until = int(session.until * 10_000_000) + TICKS_OF_1970
        self._link.properties = {symbol("com.microsoft:locked-until-utc"): until}
        self._link.open()
        self._connection.touch()

    def waited_in_vain(self) -> None:
        description = "The operation did not complete within the allotted timeout."
        self._connection.detach(self._link, "com.microsoft:timeout", description)

    def session_lost(self) -> None:
        self._connection.detach(self._link, SESSION_LOCK_LOST, "The session lock has expired on the MessageSession.")

    def close(self) -> None:
        self._queue.leave(self)

    def on_flow(self) -> None:
        if self._link.credit > 0:
            self._queue.dispatch()
        if self._link.drain_mode:
            self._link.drained()
        self._connection.touch()

    def on_delivery(self, delivery: Any) -> None:
        if not delivery.updated:
            return
        lock: Lock | None = getattr(delivery, "lock", None)
        state = delivery.remote_state
        if lock is None or not state or state == Delivery.RECEIVED:
            if delivery.settled:
                delivery.settle()
            return
        error = self._refusal(delivery, state, lock)
        if error is not None:
            delivery.local.condition = Condition(error, LOST if error.endswith("lock-lost") else error, NOTHING_ELSE)
            state = Delivery.REJECTED
        delivery.update(state)  # the client waits for its own word back
        delivery.settle()
        delivery.lock = None

    def _refusal(self, delivery: Any, state: int, lock: Lock) -> str | None:
        """Do what the client decided; the condition if that is not possible."""
        ordered = self._connection.server.faults.refusal_of(What.SETTLES)
        if ordered is not None:
            return ordered
        reason = description = None
        if state == Delivery.ACCEPTED:
            outcome = Outcome.COMPLETED
        elif state == Delivery.RELEASED:
            outcome = Outcome.RELEASED
        elif state == Delivery.REJECTED:
            outcome = Outcome.DEAD_LETTERED
            condition = delivery.remote.condition
            info = {str(name): text for name, text in ((condition and condition.info) or {}).items()}
            reason, description = info.get("DeadLetterReason"), info.get("DeadLetterErrorDescription")
        elif delivery.remote.undeliverable:
            return NOT_IMPLEMENTED  # defers
        else:
            outcome = Outcome.ABANDONED
        if self._queue.settle(lock.token, outcome, reason, description):
            return None
        return lost_of(self._queue)


def lost_of(queue: Queue) -> str:
    """The condition for a lock of this queue that is lost."""
    return MESSAGE_LOCK_LOST if queue.sessions is None else SESSION_LOCK_LOST
