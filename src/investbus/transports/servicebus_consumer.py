"""All that lies between opening and closing: receivers with their owners, and the inbox that they fill.

Without sessions there is one receiver; with them there is one for each session that is held. If one of them fails for good,
all do: the worker then closes the transport and opens it again.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from azure.servicebus.aio import ServiceBusReceiver

from investbus import config_bus
from investbus.errors import TransportDown
from investbus.transport import Delivery, PartitionState, SettleCounts, TransportState
from investbus.transports.servicebus_connection import CLOSE_WITHIN, Connection, behind, entity, explained, stopped
from investbus.transports.servicebus_inbox import Inbox
from investbus.transports.servicebus_receiver import Owner
from investbus.transports.servicebus_sessions import ACCEPTING, Seat, knock
from investbus.transports.servicebus_silence import Silence

WATCH_EVERY = 1.0


class Consumer:
    """`open` once, `receive` until it raises, `leave` in any case."""

    def __init__(
        self, settings: config_bus.ServiceBus, counts: SettleCounts, *, source: str, window: int, drain_cap: float
    ) -> None:
        seats = min(settings.sessions, window)
        self._settings = settings
        self._counts = counts
        self._source = source
        self._drain_cap = drain_cap
        self._window = window // max(1, seats)  # of each receiver
        self._explained = partial(explained, settings=settings)
        self._connection = Connection(settings)
        self._inbox = Inbox()
        self._owners: set[Owner] = set()
        waiting = asyncio.Semaphore(ACCEPTING)
        self._seats = [Seat(self._connection, waiting, self._own) for _ in range(seats)]
        self._tasks: dict[asyncio.Task[None], Seat | None] = {}
        self._watching: asyncio.Task[None] | None = None

    async def open(self) -> None:
        try:
            if self._seats:
                await knock(self._connection)
            else:
                receiver = self._connection.receiver()
                await self._connection.open(receiver)
        except BaseException as error:
            await self._connection.close()
            if isinstance(error, Exception):
                raise self._explained(error) from error
            raise
        for seat in self._seats:
            self._spawn(seat.run(), seat)
        if not self._seats:
            self._spawn(self._own(receiver))
        self._watching = asyncio.create_task(self._watch())

    async def receive(self, limit: int) -> list[Delivery]:
        return await self._inbox.take(limit)

    async def leave(self, flush_timeout: float) -> None:
        """What runs may be settled for `drain_cap` seconds, at most half of `flush_timeout`; then the rest is given back."""
        now = asyncio.get_running_loop().time
        end = now() + flush_timeout
        if self._watching is not None:
            self._watching.cancel()
        for seat in self._seats:
            seat.leaving = True
        for owner in self._owners:
            owner.close()
        limit = min(self._drain_cap, flush_timeout / 2)
        leases = [lease for owner in self._owners for lease in owner.leases]
        await asyncio.gather(*(lease.drained(limit) for lease in leases))
        for owner in self._owners:
            owner.leave()
        for task, owned in self._tasks.items():
            if owned is not None and not owned.owning:
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, end - now()))
        for owner in list(self._owners):
            owner.lose()
        for task in self._tasks:
            behind(stopped(task))
        self._inbox.fail(TransportDown(f"{self._source} is not open: it was closed"))
        await self._connection.close()

    def state(self) -> TransportState:
        silent = max((silence.seconds for silence in self._silences), default=0.0)
        reason = str(self._inbox.failure or "")
        if silent and not reason:
            reason = f"Service Bus has not answered for {silent:.0f} s ({entity(self._settings)})"
        # How many more there are, the service says only to those who may manage it.
        partition = PartitionState(lag=0, gap=sum(len(owner.held) for owner in self._owners))
        return TransportState(not reason, not reason, reason, {"0": partition})

    # ---- tasks

    async def _own(self, receiver: ServiceBusReceiver) -> None:
        owner = Owner(receiver, self._inbox, self._counts, source=self._source, window=self._window, explained=self._explained)
        self._owners.add(owner)
        try:
            await owner.run()
        finally:
            self._owners.discard(owner)
            await self._connection.end(receiver, CLOSE_WITHIN)

    async def _watch(self) -> None:
        """A call of the SDK that never returns must not hold up everything behind it."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            for silence in self._silences:
                if silence.final:
                    self._fail(TransportDown(f"Service Bus has not answered for {silence.seconds:.0f} s"))
                    return

    @property
    def _silences(self) -> list[Silence]:
        return [owner.silence for owner in self._owners] + [seat.silence for seat in self._seats]

    def _spawn(self, work: Coroutine[Any, Any, None], seat: Seat | None = None) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = seat
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(self._explained(error))

    def _fail(self, error: TransportDown) -> None:
        self._inbox.fail(error)
        for owner in list(self._owners):
            owner.lose()
