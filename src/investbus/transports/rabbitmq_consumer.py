"""One stay at a queue: a channel that consumes, the lease of what it delivers, and what watches over both.

aiormq runs every delivery in a task that ends with the channel, so the callback does nothing but put it into a buffer, which
prefetch bounds. Whatever ends the channel ends the lease at once and is what `receive` raises; nothing here reconnects.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Coroutine
from typing import Any

import aiormq
from aiormq import spec
from aiormq.abc import ChannelFrame, DeliveredMessage

from investbus import config_bus
from investbus.errors import TransportDown, TransportHeld, TransportRefused
from investbus.transport import Delivery, Lease, PartitionState, SettleCounts, TransportState
from investbus.transports.rabbitmq_connection import UNREADABLE, Link, answered, explained, said
from investbus.transports.rabbitmq_message import count, headers
from investbus.transports.rabbitmq_queue import denied, look, missing
from investbus.transports.rabbitmq_settling import Tags, applied

FLUSH_AFTER = 0.001  # seconds from a decision to its ack: what is decided meanwhile goes with it; at once costs a tenth more
FRAMES = 300  # three for an event: with aiormq's 10, `receive` would never have more than three events
PROBE_EVERY = 3.0
FULL_FOR = 5.0  # seconds after which as many unacked events as prefetch allows are a pause, and no longer a busy moment
STALLED_AFTER = 15.0  # seconds without a delivery where there should be one


class Consumer:
    """`join` once, `receive` until it raises, `leave` in any case."""

    def __init__(self, link: Link, settings: config_bus.RabbitMq, counts: SettleCounts, source: str, prefetch: int) -> None:
        self._link = link
        self._settings = settings
        self._counts = counts
        # Tags begin at 1 on every channel, and an origin has to be unique on its bus.
        self._source = f"{source}#{secrets.token_hex(4)}"
        self._prefetch = prefetch
        self._now = asyncio.get_running_loop().time
        self.lease = Lease(self._acked, counts)
        self._tags = Tags()
        self._buffer: deque[Delivery] = deque()
        self._news = asyncio.Event()  # deliveries, or a failure
        self._decided = asyncio.Event()  # acks are due, or we are leaving
        self._leaving = False
        self._unwritten = 0  # acks
        self._written = False  # an ack was
        self._failure: TransportDown | None = None
        self._silence = ""  # why the last probe got no answer
        self._ready = 0  # events on the queue when it was last looked at
        self._moved_at = self._now()  # when something was last delivered, or there was no reason for it
        self._channel: aiormq.Channel
        self._consumer_tag = ""
        self._flushing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def join(self) -> None:
        """Begin to consume. Raises TransportDown."""
        to, queue = self._link.address, self._settings.queue
        try:
            probe = await self._link.channel()
            self._ready, _ = await look(probe, queue)
            self._channel = await self._link.channel(frames=FRAMES)
            self._channel.closing.add_done_callback(self._ended)
            self._channel.on_consumer_cancel_callbacks.add(self._cancelled)
            await self._consume()
        except aiormq.ChannelNotFoundEntity as error:
            raise missing(self._settings, to) from error
        except aiormq.ChannelAccessRefused as error:
            if "exclusive" in said(error):
                raise TransportRefused(f"{to.where}: {said(error)}") from error
            raise denied("read", to, queue) from error
        self._flushing = self._spawn(self._flush())
        self._spawn(self._hold())
        self._spawn(self._probe(probe))

    async def receive(self, limit: int) -> list[Delivery]:
        while self._failure is None and not self._buffer:
            self._news.clear()
            await self._news.wait()
        if self._failure is not None:
            raise self._failure
        taken = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        self.lease.unsettled += len(taken)
        return taken

    async def leave(self, drain_cap: float, flush_timeout: float) -> None:
        """Settle what was decided, and give everything else back by closing the channel: in order, as it was delivered.

        The consumer is not cancelled first: a single active one would hand over while handlers of ours still run.
        """
        until = self._now() + flush_timeout
        self._fail(TransportDown(f"{self._link.address.where} was left"))
        self.lease.close()
        try:
            await self.lease.drained(min(drain_cap, flush_timeout / 2))
            self._leaving = True
            self._decided.set()
            if self._flushing is not None:
                await asyncio.wait((self._flushing,), timeout=(until - self._now()) / 2)
            if self._written and not self.lease.lost:
                applying = self._spawn(applied(self._link, self._channel, self._settings.queue, self._full))
                await asyncio.wait((applying,), timeout=(until - self._now()) / 2)
        finally:
            for task in self._tasks:
                task.cancel()
            await self._link.close(max(0.0, until - self._now()))
            self._lose(TransportDown("left"))

    @property
    def held(self) -> bool:
        """Whether this ended because an event was held for too long."""
        return isinstance(self._failure, TransportHeld)

    @property
    def cautious(self) -> bool:
        """Whether it takes one event at a time, until one is acked."""
        return self._prefetch < self._settings.prefetch

    @property
    def unreadable(self) -> bool:
        """Whether a frame that aiormq could not decode has ended the connection."""
        return self._failure is not None and isinstance(self._failure.__cause__, UNREADABLE)

    def state(self) -> TransportState:
        lost = "" if self._failure is None or self.held else str(self._failure)
        reason = lost or self._silence
        partition = PartitionState(lag=self._ready, gap=self._tags.outstanding)
        oldest = self._tags.oldest
        full = self._full() and oldest is not None and self._now() - oldest > FULL_FOR
        return TransportState(not reason, not lost, reason, {"0": partition}, gap_paused=full, held=self.held)

    # ---- deliveries

    async def _consume(self) -> None:
        await answered(self._channel.basic_qos(prefetch_count=self._prefetch))
        consuming = await answered(self._channel.basic_consume(self._settings.queue, self._delivered))
        self._consumer_tag = str(consuming.consumer_tag)

    async def _delivered(self, message: DeliveredMessage) -> None:
        tag = message.delivery_tag
        assert tag is not None
        self._moved_at = self._now()
        self._tags.delivered(tag, self._moved_at)  # before anything can fail: nothing may be acked past it
        given = message.header.properties.headers
        self._buffer.append(
            Delivery(message.body, headers(given), self._source, tag, self.lease, bool(message.redelivered), count(given))
        )
        self._news.set()

    def _full(self) -> bool:
        """Whether the broker may send nothing more, and so knows of every ack."""
        return self._tags.outstanding >= self._prefetch

    def _acked(self, tag: int) -> None:
        self._tags.finished(tag)
        self._unwritten += 1
        self._decided.set()

    # ---- acks

    async def _flush(self) -> None:
        """Write acks, until we leave and the last one is written."""
        while not self._leaving or self._unwritten:
            await self._decided.wait()
            if not self._leaving:
                await asyncio.sleep(FLUSH_AFTER)
            self._decided.clear()
            if self._unwritten and self.cautious and not self._leaving:
                await self._widen()
            else:
                await self._write()

    async def _write(self) -> None:
        covered, acks = self._unwritten, self._tags.due()
        if not acks:
            return
        written = self._channel.create_future()  # it fails with the channel
        frames = [spec.Basic.Ack(delivery_tag=tag, multiple=multiple) for tag, multiple in acks]
        # `basic_ack` costs ten times as much, for each has its own way to the socket.
        await self._channel.write_queue.put(ChannelFrame.marshall(self._channel.number, frames, written))
        await asyncio.wait((written,))
        if not self.lease.lost and not written.cancelled() and written.exception() is None:
            self._unwritten -= covered
            self._counts.ok += covered
            self._written = True

    async def _widen(self) -> None:
        """From one event at a time to the configured number, which counts only for a new consumer.

        Cancelled before the ack is written, the old one is sent nothing in between; so where a queue has a single active
        consumer, nothing of ours is unfinished should another replica become the active one now.
        """
        await answered(self._channel.basic_cancel(self._consumer_tag))
        await self._write()
        self._prefetch = self._settings.prefetch
        await self._consume()

    # ---- what watches

    async def _hold(self) -> None:
        """Give up once an event has been unacked for `hold_max`: better in order now, than when the broker's patience ends."""
        longest = left = self._settings.hold_max
        while left > 0:
            await asyncio.sleep(left)
            oldest = self._tags.oldest
            left = longest if oldest is None else oldest + longest - self._now()
        what = f"an event was held for {longest:g} s (rabbitmq.hold_max)"
        self._fail(TransportHeld(f"{self._link.address.where}: {what}; all that is unacked goes back to the queue, in order"))
        self.lease.close()

    async def _probe(self, channel: aiormq.Channel | None) -> None:
        """A broker that is frozen shows long before heartbeats run out; what it means for the lease is left to them."""
        while True:
            await asyncio.sleep(PROBE_EVERY)
            others = True
            try:
                channel = channel or await self._link.channel()
                self._ready, consumers = await look(channel, self._settings.queue)
                self._silence, others = "", consumers > 1
            except Exception as error:  # whatever it is: the next look is on a new channel
                channel = None
                self._silence = str(explained(error, self._link.address))
            if self._tags.outstanding or not (self._silence or self._ready):
                self._moved_at = self._now()
            elif self._now() - self._moved_at > STALLED_AFTER:
                await self._stalled(others)

    async def _stalled(self, others: bool) -> None:
        """Seen with RabbitMQ 3.10 after its start: whoever comes before the queue has a leader may wait for ever.

        Beside `others` this one may be waiting for its turn, where the queue has a single active consumer. That is not seen from
        here; so it queues up once more, with nothing in hand that could be lost.
        """
        if self._silence or not others:
            what = f'queue "{self._settings.queue}" has {self._ready} events, and has delivered none'
            why = self._silence or f"{self._link.address.where}: {what}"
            self._lose(TransportDown(f"{why} for {STALLED_AFTER:g} s"))
            return
        self._moved_at = self._now()
        await answered(self._channel.basic_cancel(self._consumer_tag))
        await self._consume()

    # ---- the end

    def _ended(self, closing: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if closing.cancelled() else closing.exception()
        failure = explained(error, self._link.address)
        failure.__cause__ = error
        self._lose(failure)

    def _cancelled(self, _: spec.Basic.Cancel) -> None:
        queue = self._settings.queue
        reasons = f'queue "{queue}" was deleted, its node went away, or an event was unacked for too long'
        self._lose(TransportDown(f"{self._link.address.where} cancelled the consumer: {reasons}"))

    def _fail(self, why: TransportDown) -> None:
        self._failure = self._failure or why
        self._news.set()

    def _lose(self, why: TransportDown) -> None:
        self._fail(why)
        self._buffer.clear()
        for task in self._tasks:
            task.cancel()
        self._counts.lost += self._unwritten
        self._unwritten = 0
        self.lease.lose()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lose(explained(error, self._link.address))
