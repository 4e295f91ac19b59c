"""The owner of one receiver: the only coroutine that receives, settles and renews on it.

The SDK is not safe for two (messages are settled twice, calls hang), and must not be cancelled, so one loop does everything
in turn and ends by a flag. A lock is renewed from receipt on, wherever its message waits or runs.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

import msgspec
import structlog
from azure.servicebus import ServiceBusReceivedMessage
from azure.servicebus.aio import ServiceBusReceiver
from azure.servicebus.exceptions import OperationTimeoutError, ServiceBusConnectionError

from investbus.errors import TransportDown
from investbus.transport import Delivery, Lease, SettleCounts
from investbus.transports.servicebus_inbox import Inbox
from investbus.transports.servicebus_link import Link, Outcome, says
from investbus.transports.servicebus_locks import Lock, Locks
from investbus.transports.servicebus_message import body_of, headers_of
from investbus.transports.servicebus_silence import Silence

ROUND = 0.02  # seconds of receiving before what was decided is settled
WAIT_BUSY = 0.02  # seconds to wait for a message while decisions may come
WAIT_IDLE = 0.2  # else
IDLE_LOOK = 0.1  # seconds between looks while nothing may be received
CHUNK = 100  # settlements at once: sending them does not give the event loop its turn
RECEIVE_TRIES = 3
SETTLE_AGAIN, SETTLE_AGAIN_MAX = 0.5, 8.0  # seconds, twice as long each time
SETTLE_FOR = 60.0  # seconds; then a settlement that is neither confirmed nor refused is left to the end of its lock
RENEW_AT_ONCE = 100
MEND_AGAIN = 5.0  # seconds; a connection that breaks again so soon is the worker's affair
SESSION_IDLE = 2.0  # seconds without an event after which a session makes room for another

log = structlog.get_logger("investbus.servicebus")


class Held(msgspec.Struct, eq=False):
    """A message that is locked for us."""

    message: ServiceBusReceivedMessage
    delivery: Delivery
    lock: Lock
    link: object  # that it came over
    handed_out: bool = False
    decision: Outcome | None = None
    decided_at: float = 0.0
    told: bool = False  # the service was, once


class Owner:
    """`run` ends after `leave`, with a session that is lost or idle, and with TransportDown."""

    def __init__(
        self,
        receiver: ServiceBusReceiver,
        inbox: Inbox,
        counts: SettleCounts,
        *,
        source: str,
        window: int,
        explained: Callable[[BaseException], TransportDown],
    ) -> None:
        """`receiver` is open. `explained` says what its errors mean."""
        self._receiver = receiver
        self._link = Link(receiver)
        self._inbox = inbox
        self._counts = counts
        self._source = source
        self._window = window
        self._explained = explained
        self._now = asyncio.get_running_loop().time
        self.silence = Silence()
        self.held: dict[int, Held] = {}
        self._decided: list[Held] = []
        self._unanswered: list[Held] = []  # decided, and the service has neither confirmed nor refused it
        self._again_at = float("-inf")  # when they are settled again
        self._again_after = SETTLE_AGAIN
        self._throttled = False  # it has confirmed nothing of what it was told last
        self._doubted: list[Held] = []  # received with a lock that has ended, by our clock, and what came behind
        self._wake = asyncio.Event()
        self._mended_at = float("-inf")
        self._failures = 0  # of receiving, in a row
        self._received_at = self._now()
        self._closing = False
        self._leaving = False
        self._locks = Locks(lambda: Lease(self._acked, counts, self._released))
        self._session_lock: Lock | None = None
        if receiver.session is not None:
            self._session_lock = self._locks.add(None, self._link.session_ends())

    # ---- from outside

    @property
    def leases(self) -> list[Lease]:
        return self._locks.leases

    def close(self) -> None:
        """Nothing new; what runs may still be settled."""
        self._closing = True
        for lease in self.leases:
            lease.close()
        self._wake.set()

    def leave(self) -> None:
        """Settle what was decided, give back the rest, and end."""
        self._closing = self._leaving = True
        for lease in self.leases:
            lease.lose()
        self._wake.set()

    def lose(self) -> None:
        """All locks are as good as gone. Whatever the SDK still does counts no more."""
        self._closing = self._leaving = True
        for held in list(self.held.values()):
            self._lost(held.lock)
        if self._session_lock is not None:
            self._locks.lose(self._session_lock)
        self._locks.forget()
        self._wake.set()

    # ---- the loop

    async def run(self) -> None:
        try:
            while not self._leaving:
                await self._round()
            await self._give_back()
        finally:
            self.lose()

    async def _round(self) -> None:
        until = self._now() + ROUND
        while self._room and await self._receive() and self._now() < until:
            pass
        if not self._asking:
            await self._give_back_waiting()
        await self._settle()
        await self._renew(self._locks.due())
        if self.silence.to_be_broken:
            await self._look()
        if self._session_lock is not None and not self.held and self._now() - self._received_at > SESSION_IDLE:
            self.leave()
        if not self._room and (self._throttled or not self._decided):
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_LOOK):
                    await self._wake.wait()

    @property
    def _asking(self) -> bool:
        return self._inbox.wanted and not self._closing

    @property
    def _room(self) -> int:
        return self._window - len(self.held) if self._asking else 0

    # ---- receiving

    async def _receive(self) -> bool:
        """Take what has arrived, or wait a little for the next message; whether there was one."""
        try:
            allowed = self._room - self._link.ready
            if allowed > 0 and self._link.credit <= allowed // 2:
                await self._link.allow(allowed)
            messages = await self._receiver.receive_messages(max(1, self._link.ready), WAIT_BUSY if self.held else WAIT_IDLE)
            if not messages and self._link.broken:
                raise ServiceBusConnectionError(message="the link was closed")
        except Exception as error:
            self._failures += 1
            if self._failures > RECEIVE_TRIES:
                raise self._explained(error) from error
            await self._mend(error)
            await asyncio.sleep(WAIT_BUSY)  # whatever is wrong, others have to get their turn
            return False
        self._failures = 0
        self._take(messages)
        await self._make_sure()
        return bool(messages)

    def _take(self, messages: Sequence[ServiceBusReceivedMessage]) -> None:
        if messages:
            self.silence.heard()
            self._received_at = self._now()
        for message in messages:
            position = message.sequence_number or 0
            if (before := self.held.get(position)) is not None:
                self._lost(before.lock)  # the service gives it to us again, so the lock had run out
            lock = self._session_lock or self._locks.add(message, message.locked_until_utc)
            body, fault = body_of(message)
            count = (message.delivery_count or 0) + 1
            delivery = Delivery(body, headers_of(message), self._source, position, lock.lease, count > 1, count, fault)
            self.held[position] = held = Held(message, delivery, lock, self._link.client)
            if self._doubted or self._locks.has_ended(lock):
                self._doubted.append(held)
            else:
                self._inbox.put(held)

    async def _make_sure(self) -> None:
        """Hand out what was doubted, if the service says that it is ours."""
        doubted, self._doubted = self._doubted, []
        locks = {held.lock for held in doubted if self._is_held(held) and self._locks.has_ended(held.lock)}
        if locks:
            log.warning("events came with locks that have ended; is the clock of this machine right?", events=len(doubted))
            await self._renew(list(locks))
        for held in doubted:
            if self._is_held(held):
                self._inbox.put(held)

    # ---- settling

    def _acked(self, position: int) -> None:
        self._decide(self.held[position], "accepted")

    def _released(self, position: int) -> None:
        self._inbox.wanted = False  # the worker drains: it would only come back to us
        self._decide(self.held[position], "released")

    def _decide(self, held: Held, decision: Outcome) -> None:
        held.decision, held.decided_at = decision, self._now()
        self._decided.append(held)
        self._wake.set()

    async def _settle(self) -> None:
        if self._now() >= self._again_at or self._leaving:
            self._decided, self._unanswered = self._unanswered + self._decided, []
        elif self._throttled:
            return
        decided, self._decided = [held for held in self._decided if self._is_held(held)], []
        if not decided:
            return
        chunks = [decided[start : start + CHUNK] for start in range(0, len(decided), CHUNK)]
        left = [held for chunk in chunks for held in await self._settled(chunk)]
        self._throttled = len(left) == len(decided)
        if not self._throttled:
            self._again_after = SETTLE_AGAIN
        if left:
            self._put_off(left)

    def _put_off(self, left: Sequence[Held]) -> None:
        """Until later, and what was put off for long enough for good: the service gives it to somebody when its lock ends."""
        self._again_at = self._now() + self._again_after
        self._again_after = min(2 * self._again_after, SETTLE_AGAIN_MAX)
        for held in left:
            if self._now() - held.decided_at < SETTLE_FOR:
                self._unanswered.append(held)
            elif self._is_held(held):
                self._counts.error += held.decision == "accepted"
                del self.held[held.delivery.position]
                self._lost(held.lock)

    async def _settled(self, chunk: Sequence[Held]) -> list[Held]:
        """Settle them; which ones the service has neither confirmed nor refused."""
        here = self._link.client
        new = [held for held in chunk if held.link is here and not held.told]
        old = [held for held in chunk if held.link is not here or held.told]
        done, back = ([held for held in old if held.decision == outcome] for outcome in ("accepted", "released"))
        for held in chunk:
            held.told = True
        self.silence.ask()
        answers = await self._link.settle([(held.message, held.decision) for held in new if held.decision]) if new else []
        answers += await self._link.settle_slowly([held.message for held in done], "accepted")
        answers += await self._link.settle_slowly([held.message for held in back], "released")
        both = list(zip([*new, *done, *back], answers, strict=True))
        for held, error in both:
            if error is None:
                self._confirmed(held)
        left = [(held, error) for held, error in both if error is not None and not self._refused(held, error)]
        if left:
            await self._mend(left[0][1])
        return [held for held, _ in left]

    def _confirmed(self, held: Held) -> None:
        self.silence.heard()
        if self._is_held(held):
            self._counts.ok += held.decision == "accepted"
            del self.held[held.delivery.position]
            if held.lock is not self._session_lock:
                self._locks.free(held.lock)

    def _refused(self, held: Held, error: Exception) -> bool:
        """Whether it is clear that nothing can be settled any more."""
        if self._is_held(held) and says(error, "lock-lost"):
            self.silence.heard()
            self._lost(held.lock)
        return not self._is_held(held)

    def _is_held(self, held: Held) -> bool:
        return self.held.get(held.delivery.position) is held

    async def _give_back_waiting(self) -> None:
        """Release what nobody has asked for yet, and what the service has already sent."""
        try:
            if self._link.credit:
                await self._link.allow(0)
                await self._link.ask()  # answered after all that was on its way
            if ready := self._link.ready:
                self._take(await self._receiver.receive_messages(ready, WAIT_BUSY))
        except Exception as error:
            await self._mend(error)
        waiting = [held for held in self.held.values() if not held.handed_out and held.decision is None]
        self._inbox.withdraw(waiting)
        for held in waiting:
            self._decide(held, "released")

    async def _give_back(self) -> None:
        await self._give_back_waiting()
        for held in self.held.values():
            if held.decision is None:
                self._decide(held, "released")
        await self._settle()
        while self._unanswered:
            await asyncio.sleep(SETTLE_AGAIN)
            await self._settle()

    # ---- locks

    async def _renew(self, due: Sequence[Lock]) -> None:
        for start in range(0, len(due), RENEW_AT_ONCE):
            some = due[start : start + RENEW_AT_ONCE]
            if not await self._renewed(some):
                for lock in some:
                    await self._renewed([lock])

    async def _renewed(self, locks: Sequence[Lock]) -> bool:
        """Renew them; False if one of them is lost, and it is not known which."""
        self.silence.ask()
        try:
            ends = await self._renewals(locks)
        except Exception as error:
            if says(error, "lock-lost"):
                self.silence.heard()
                if len(locks) > 1:
                    return False
                self._lost(locks[0])
                return True
            for lock in locks:
                self._locks.unanswered(lock)
                if self._locks.has_ended(lock):
                    self._lost(lock)
            await self._mend(error)
        else:
            self.silence.heard()
            for lock, end in zip(locks, ends, strict=True):
                self._locks.renewed(lock, end)
        return True

    async def _renewals(self, locks: Sequence[Lock]) -> list[datetime | None]:
        messages = [lock.message for lock in locks if lock.message is not None]
        return await (self._link.renew(messages) if messages else self._link.renew_session())

    def _lost(self, lock: Lock) -> None:
        """The lock, its lease, and all that is held by it. Acks that have not reached the service count as lost."""
        gone = [held for held in self.held.values() if held.lock is lock]
        for held in gone:
            del self.held[held.delivery.position]
            self._counts.lost += held.decision == "accepted"
        self._inbox.withdraw(gone)
        self._locks.lose(lock)
        if lock is self._session_lock:
            self._leaving = self._closing = True

    # ---- being well

    async def _look(self) -> None:
        """Ask something that has to be answered."""
        self.silence.ask()
        try:
            await self._link.ask()
        except Exception as error:
            await self._mend(error)
        else:
            self.silence.heard()

    async def _mend(self, error: Exception) -> None:
        """Where link or connection is gone, the locks of messages are not: open it again, once. If that does not help, or not
        for long, it is the worker's turn. A session's lock is gone with its link.
        """
        if says(error, "server-busy"):
            self.silence.heard()
        if not self._link.broken and (isinstance(error, OperationTimeoutError) or says(error, "server-busy")):
            return  # still connected, as far as anybody knows; the silence tells
        if self._session_lock is not None:
            self._lost(self._session_lock)
            return
        if self._now() - self._mended_at < MEND_AGAIN:
            raise self._explained(error)
        try:
            self.silence.ask()
            await self._link.open_again()
        except Exception as again:
            raise self._explained(again) from error
        self.silence.heard()
        if self._link.opened_again():
            self._mended_at = self._now()
            log.info("connection opened again", held=len(self.held))
