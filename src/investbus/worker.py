"""Opens the bus, takes deliveries, and gives everything back in order when it stops. Holds the only reconnect loop.

Transports do not reconnect by themselves: two loops that both try to mend a connection are how consumers end up connected and
silent. A bus that cannot be reached is no reason to exit: the worker is not ready, says why, and tries again.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress

import msgspec
import structlog

from investbus.ambient import Ambient
from investbus.config import Settings
from investbus.controls import Controls
from investbus.crash import CrashJournal
from investbus.dispatcher import Dispatcher
from investbus.errors import StoreError, TransportDown, TransportHeld
from investbus.gatehouse import Gatehouse
from investbus.intake import Intake
from investbus.metrics import Metrics
from investbus.pauses import Pauses
from investbus.replay_record import ReplayRecord
from investbus.retry import RetryPolicy
from investbus.settle import Settler
from investbus.store import Store
from investbus.transport import Delivery, Lease, Transport, TransportState
from investbus.work import OVERHEAD, Work

log = structlog.get_logger("investbus.worker")
RECEIVE_FOR = 1.0  # seconds that one receive may wait, so that the loop shows that it lives
FLUSH_TIMEOUT = 5.0  # seconds for the last commits
RECONNECT = RetryPolicy(first=0.5, factor=2.0, max=15.0, jitter=0.3)


class Backed(msgspec.Struct, frozen=True):
    """What a worker has only with a store: requests of operators, and the journal of starts."""

    store: Store
    controls: Controls
    record: ReplayRecord
    journal: CrashJournal


class Worker:
    """One consumer process. `run` ends when `stop` was called, or when the job that `run` was given is done."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        backed: Backed | None,
        intake: Intake,
        dispatcher: Dispatcher,
        settler: Settler,
        gatehouse: Gatehouse,
        pauses: Pauses,
        metrics: Metrics,
        ambient: Ambient,
    ) -> None:
        self.settings = settings
        self.transport = transport
        self.backed = backed
        self.store = None if backed is None else backed.store
        self.gatehouse = gatehouse
        self.pauses = pauses
        self.holding = False  # everything went back to the bus, since it was held as long as the bus allows
        self.dispatcher = dispatcher
        self.metrics = metrics
        self.settler = settler
        self.intake = intake
        self._ambient = ambient
        self._leases: set[Lease] = set()
        self._stop = asyncio.Event()
        self._receiving = False
        self.taking = False  # deliveries are in hand that have not reached their lanes
        self._opened = False
        self._cut_short = False  # a job that ended because it was paused
        self.down_reason = "not opened yet"
        self.store_reason = "not opened yet" if backed is not None else ""
        self.last_received = 0.0
        self.taken = 0
        self._active_at = ambient.monotonic()
        self.beat = ambient.monotonic()
        self.waits_for = "bus"  # what outside of this process the receive loop waits for; "" while it should show a beat
        settler.forget = self._forget
        settler.stored = dispatcher.stored
        if backed is not None:
            settler.replayed, settler.flooded = backed.record.finish, backed.controls.flooded
            backed.record.settle, backed.record.stored = settler.settle, dispatcher.stored

    @property
    def stopping(self) -> bool:
        """Whether the worker drains: not ready, nothing new is taken."""
        return self._stop.is_set()

    @property
    def idle(self) -> bool:
        """Whether nothing that was received is unfinished, on its way to its lane included."""
        return not self.taking and not self.dispatcher.backlog.unfinished

    @property
    def transport_state(self) -> TransportState:
        """The transport as it says, or not connected while it is not open."""
        return self.transport.state() if self._opened else TransportState(False, False, self.down_reason)

    @property
    def transport_reason(self) -> str:
        """Why the transport is not ready; "" if it is."""
        state = self.transport_state
        if state.connected and state.joined:
            return ""
        return state.reason or ("not joined yet" if state.connected else "not connected")

    def stop(self) -> None:
        """Begin to drain; `run` then returns."""
        self._stop.set()

    async def run(self, until_idle: float | None = None, max_events: int | None = None) -> bool:
        """Work until stopped, or until nothing has happened for `until_idle` seconds, or `max_events` deliveries were taken and
        finished. True if nothing had to be cancelled, and no pause cut the job short. Raises UnsafeStart, and whatever is a bug.
        """
        await self._open_store()
        self.dispatcher.start()
        recorders = [asyncio.create_task(self.settler.record_dead())]
        requests: list[asyncio.Task[None]] = []
        if (backed := self.backed) is not None:
            recorders += [asyncio.create_task(self.settler.record_done()), asyncio.create_task(backed.record.write())]
            requests += [asyncio.create_task(backed.controls.watch()), asyncio.create_task(backed.controls.carry_out())]
        consumer = asyncio.create_task(self._consume(max_events))
        stopped = asyncio.create_task(self._stopped(until_idle, max_events))
        every = (consumer, *recorders, *requests)
        try:
            await asyncio.wait((stopped, self.dispatcher.slots.crashed, *every), return_when="FIRST_COMPLETED")
            return await self._shut_down(consumer, requests)
        finally:
            self.dispatcher.leave()  # also where `run` itself is cancelled, and nothing was drained
            for task in (stopped, *every):
                task.cancel()
            for task in every:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise error
            if self.dispatcher.slots.crashed.done():
                self.dispatcher.slots.crashed.result()

    # ---- taking

    async def _consume(self, max_events: int | None) -> None:
        failures, opened_at = 0, float("inf")
        while not self.stopping:
            try:
                self.waits_for = "bus"
                await self.transport.open()
                self._opened, self.down_reason, opened_at = True, "", self._ambient.monotonic()
                log.info("connected", transport=self.transport.name, source=self.transport.source)
                await self._receive(max_events)
                await self._stop.wait()  # enough taken: what is taken must still end, on leases that stay ours
                return
            except TransportHeld as error:
                log.warning("events were held as long as the bus allows; all go back to it", reason=str(error))
                self.down_reason, self.holding = str(error), True
            except TransportDown as error:
                # A bus that lets us in and then refuses is no better than one that refuses at the door.
                stayed = self._ambient.monotonic() - opened_at > RECONNECT.max
                failures, opened_at = 1 if stayed else failures + 1, float("inf")
                if self.down_reason != str(error):
                    log.warning("the bus is not there; trying again", transport=self.transport.name, reason=str(error))
                self.down_reason = str(error)
            self._opened, self.waits_for = False, "bus"
            with suppress(TransportDown):
                await self.transport.close(FLUSH_TIMEOUT)
            if self.holding:
                await self._within_stop(self._clear())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), RECONNECT.wait(failures, self._ambient.chance()))
            self.holding = False
            self.metrics.reconnects.labels(self.transport.name).inc()

    async def _clear(self) -> None:
        """Wait until events that are taken again can run: nothing is paused, and the platform answers.

        Only the platform can be asked without an event; what else is down shows when the first event asks.
        """
        await self.pauses.over()
        while (gate := self.gatehouse.gate("api")).closed:
            await asyncio.sleep(self.settings.gate.probe_every)
            if self._ambient.monotonic() >= gate.probe_at:  # not before a Retry-After is over
                await self.gatehouse.knock()

    async def _within_stop(self, wait: Coroutine[None, None, None]) -> None:
        """Wait, but not beyond the end of the worker."""
        waiting, stopping = asyncio.create_task(wait), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when="FIRST_COMPLETED")
        finally:
            waiting.cancel()
            stopping.cancel()

    async def _receive(self, max_events: int | None) -> None:
        while max_events is None or self.taken < max_events:
            if self.pauses.everything:
                self.waits_for = "resume"
                await self._within_stop(self._paused())
            self.beat, self.waits_for = self._ambient.monotonic(), "room"
            limit = await self.dispatcher.backlog.room()
            if self.stopping:  # also when there is room because everything queued was given back
                return
            if max_events is not None:
                limit = min(limit, max_events - self.taken)
            self.beat, self.waits_for = self._ambient.monotonic(), ""
            try:
                async with asyncio.timeout(RECEIVE_FOR) as patience:
                    self._receiving = True
                    deliveries = await self.transport.receive(limit)
            except TimeoutError:
                if not patience.expired():
                    raise
                continue
            finally:
                self._receiving = False
            self.taking = True
            await self._take(deliveries)
            self.taking = False

    async def _paused(self) -> None:
        """Wait for the end of the pause; or of the connection or the bus's patience, which only `receive` can tell."""
        while self.pauses.everything and (state := self.transport.state()).connected and not state.held:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECEIVE_FOR):
                    await self.pauses.over()

    async def _take(self, deliveries: Sequence[Delivery]) -> None:
        self.last_received = self._ambient.wall()
        self._active_at = self._ambient.monotonic()
        self.taken += len(deliveries)
        self.metrics.deliveries += len(deliveries)
        for delivery in deliveries:
            if delivery.lease not in self._leases and not delivery.lease.closing:
                self._leases.add(delivery.lease)
                delivery.lease.on_closing(self._lease_closes)
        at = 0
        while at < len(deliveries):
            self.waits_for = "room"
            await self.dispatcher.backlog.room()
            piece = self._piece(deliveries, at)
            at += len(piece)
            self.waits_for = "store"
            self.dispatcher.submit(await self.intake.take(piece, self.dispatcher.slots.breathe))

    def _piece(self, deliveries: Sequence[Delivery], start: int) -> Sequence[Delivery]:
        """As many of the deliveries as the backlog's bytes have room for, and at least one."""
        room = self.settings.dispatch.backlog_bytes - self.dispatcher.backlog.bytes
        end = start
        while end < len(deliveries):
            room -= len(deliveries[end].body) + OVERHEAD
            if room < 0 and end > start:
                break
            end += 1
        return deliveries[start:end]

    def _lease_closes(self, lease: Lease) -> None:
        self._leases.discard(lease)
        self.dispatcher.drop(lease)

    # ---- store

    async def _open_store(self) -> None:
        """Open the store, however long it takes: without it nothing may be acked."""
        failures = 0
        while self.store is not None and not self.stopping:
            try:
                await self.store.open()
                if self.backed is not None:
                    await self.backed.controls.look()  # a pause outlives the process: it holds before the first event
            except StoreError as error:
                failures += 1
                if self.store_reason != str(error):
                    log.error("the store cannot be opened; trying again", error=str(error))
                self.store_reason = str(error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), RECONNECT.wait(failures, self._ambient.chance()))
                continue
            self.store_reason = ""
            return

    def _forget(self, work: Work) -> None:
        if work.identity is not None:
            self.intake.forget(work, work.identity)
        self.dispatcher.backlog.forget(work)

    # ---- stopping

    async def _stopped(self, until_idle: float | None, max_events: int | None) -> None:
        """Until somebody says stop or the job is done."""
        while not self._stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 0.1 if until_idle or max_events else None)
            now = self._ambient.monotonic()
            held = self.pauses.everything and not self.taking and not self.dispatcher.running
            if not self.idle and not held:
                self._active_at = now
                continue
            if max_events is not None and self.taken >= max_events and self.idle:
                return
            replaying = self.backed is not None and self.backed.controls.carrying
            if self.transport_reason or replaying:
                self._active_at = now
            if until_idle is not None and now - self._active_at >= until_idle:
                self._cut_short = held
                return

    async def _shut_down(self, consumer: asyncio.Task[None], requests: Sequence[asyncio.Task[None]]) -> bool:
        self._stop.set()
        for task in requests:
            task.cancel()  # a replay goes back to the mailbox, and what of it runs may end
        log.info("draining", running=self.dispatcher.running, unfinished=self.dispatcher.backlog.unfinished)
        if self._receiving:
            consumer.cancel()  # a cancelled receive loses nothing
        drained, _ = await asyncio.gather(
            self.dispatcher.drain(self.settings.shutdown.grace), asyncio.wait((consumer,), timeout=FLUSH_TIMEOUT)
        )
        with suppress(TransportDown):
            await self.transport.close(FLUSH_TIMEOUT)
        if self.backed is not None and not self.store_reason:
            await asyncio.wait(requests, timeout=FLUSH_TIMEOUT)
            await self.backed.controls.close()
            await self.backed.journal.close()
            with suppress(StoreError):
                await self.backed.store.close()
        if self._cut_short:
            log.warning("the job ends since everything is paused (investbus resume); what waits on the bus was not taken")
        if not drained:
            log.warning("grace ran out: what was cancelled comes again", grace=self.settings.shutdown.grace)
        log.info("stopped", clean=drained, dead_letters=self.settler.letters)
        return drained and not self._cut_short
