"""One stay in a Kafka consumer group, from joining to leaving.

aiokafka sends heartbeats by itself, so not being asked for records costs nothing: the pump fills a bounded buffer and
waits. Only the pump calls `getmany`, and nobody cancels it in there: aiokafka would think it busy for ever after.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, errors
from aiokafka.structs import TopicPartition

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transport import Delivery, SettleCounts, TransportState
from investbus.transports.kafka_partition import Epoch, Partition
from investbus.transports.kafka_positions import Positions
from investbus.transports.kafka_security import explained, why

BATCH = 500  # records of one getmany: from 100 on the price of a record is flat, and a longer batch holds up the loop
BUFFER_BYTES = 8_388_608
POLL = 0.1  # seconds in getmany
COMMIT_EVERY = 1.0
COMMIT_SOON = 0.02  # after the last unfinished delivery
FLUSH_WITHIN = 5.0  # the commit before partitions are given away
PROBE_EVERY = 3.0
PROBE_WITHIN = 5.0
REBUILD_AFTER = 120.0  # without an answer or a place in the group: aiokafka never asks the bootstrap servers again
STALLED_AFTER = 60.0  # records wait on the broker and none arrive: its fetching can die unseen

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

log = structlog.get_logger("investbus.kafka")


class Membership:
    """`join` once, `receive` until it raises, `leave` in any case. The caller starts and stops the consumer."""

    def __init__(self, consumer: Any, settings: config_bus.Kafka, counts: SettleCounts, *, drain_cap: float, max_gap: int) -> None:
        self._consumer = consumer
        self._settings = settings
        self._counts = counts
        self._drain_cap = drain_cap
        self._max_gap = max_gap
        self._positions = Positions(consumer, settings)
        self._now = asyncio.get_running_loop().time
        self._epoch: Epoch | None = None
        self._buffer: deque[tuple[Partition, Delivery]] = deque()
        self._arrived = asyncio.Event()  # records, or a failure
        self._room = asyncio.Event()
        self._idle = asyncio.Event()  # nothing handed out is unfinished
        self._tasks: set[asyncio.Task[None]] = set()
        self._pumping: asyncio.Task[None] | None = None
        self._placing: asyncio.Task[None] | None = None
        self._leaving = False
        self._failure: TransportDown | None = None
        self._answered = self._member_at = self._now()
        self._silence = ""  # why the last probe got no answer
        self._joined_until = 0.0  # a rebalance that takes no longer than this is nothing to be unready for

    def join(self) -> None:
        self._consumer.subscribe([self._settings.topic], listener=self)
        self._pumping = self._spawn(self._pump())
        self._spawn(self._commit_in_time())
        self._spawn(self._probe())

    async def receive(self, limit: int) -> list[Delivery]:
        while self._failure is None and not self._buffer:
            self._arrived.clear()
            await self._arrived.wait()
        if self._failure is not None:
            raise self._failure
        taken = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        self._room.set()
        for partition, delivery in taken:
            partition.hand_out(delivery.position)
        return [delivery for _, delivery in taken]

    async def leave(self, flush_timeout: float) -> None:
        """Commit what is finished. From here on acks are discarded."""
        self._leaving = True
        self._room.set()
        others = [task for task in self._tasks if task is not self._pumping]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._epoch is not None:
            with contextlib.suppress(TransportDown, errors.KafkaError):
                await self._positions.flush(self._epoch, flush_timeout)
        self._end()
        if self._pumping is not None:
            await asyncio.wait((self._pumping,), timeout=2 * POLL)
            self._pumping.cancel()  # a rebalance can hold it in getmany for ever, and this consumer is not used again
        self._fail(TransportDown("the Kafka transport was closed"))

    def state(self) -> TransportState:
        partitions = self._epoch.partitions if self._epoch is not None else {}
        joined = (self._epoch is not None and self._epoch.placed) or self._now() < self._joined_until
        reasons = [partition.lost for partition in partitions.values() if partition.lost]
        if not joined:
            reasons = [f'joining group "{self._settings.group}"']
        silence = f"{self._silence} (silent for {self._now() - self._answered:.0f} s)" if self._silence else ""
        failure = str(self._failure or silence)
        return TransportState(
            connected=not failure,
            joined=not reasons,
            reason="; ".join([failure, *reasons] if failure else reasons),
            partitions={str(number): partition.state() for number, partition in sorted(partitions.items())},
            gap_paused=any(partition.full for partition in partitions.values()),
        )

    # ---- rebalances: aiokafka calls the first before it joins again, while heartbeats go on, and the second after it

    async def on_partitions_revoked(self, _: object) -> None:
        epoch = self._epoch
        if epoch is None:
            return
        if epoch.placed:
            self._joined_until = self._now() + self._settings.session_timeout
        self._drop_buffer()
        self._end_if_expelled()
        if self._epoch is not None:
            leases = [partition.lease for partition in epoch.partitions.values()]
            for lease in leases:
                lease.close()
            await asyncio.gather(*(lease.drained(self._drain_cap) for lease in leases))
            try:
                await self._positions.flush(epoch, FLUSH_WITHIN)
            except Exception as error:  # aiokafka would log it and go on
                self._fail(error)
        self._end()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        if self._leaving:
            return
        partitions = {tp.partition: Partition(tp, self._counts, self._acked) for tp in assigned}
        self._consumer.pause(*(partition.tp for partition in partitions.values()))
        self._epoch = Epoch(self._positions.generation, partitions)
        self._placing = self._spawn(self._positions.place(self._epoch))
        log.info("partitions assigned", group=self._settings.group, partitions=sorted(partitions))

    def _end(self) -> None:
        epoch, self._epoch = self._epoch, None
        self._drop_buffer()
        if self._placing is not None:
            self._placing.cancel()
        if epoch is not None:
            epoch.lose()

    def _end_if_expelled(self) -> None:
        """The group went on without us: others may own all of it by now, so nothing is drained or committed."""
        if self._epoch is not None and self._positions.generation != self._epoch.generation:
            self._end()

    def _drop_buffer(self) -> None:
        self._buffer.clear()
        self._room.set()

    # ---- fetching

    async def _pump(self) -> None:
        most = min(BATCH, self._max_gap)
        while not self._leaving:
            if self._crowded():
                self._room.clear()
                await self._room.wait()
                continue
            try:
                fetched = await self._consumer.getmany(timeout_ms=round(POLL * 1000), max_records=most)
            except errors.OffsetOutOfRangeError as error:
                await self._reposition(error.args[0])
            except errors.NoOffsetForPartitionError:
                await asyncio.sleep(POLL)  # it is being placed
            else:
                for tp, records in fetched.items():
                    self._take(tp, records)
                await asyncio.sleep(0)  # getmany does not pause for records that it has

    def _crowded(self) -> bool:
        return len(self._buffer) > BATCH or sum(len(delivery.body) for _, delivery in self._buffer) > BUFFER_BYTES

    async def _reposition(self, lost: Mapping[Any, int]) -> None:
        epoch = self._epoch
        for tp, offset in lost.items():
            if epoch is not None and tp.partition in epoch.partitions:
                await self._positions.lost(epoch, epoch.partitions[tp.partition], offset)
        self._buffer = deque(entry for entry in self._buffer if not entry[1].lease.lost)

    def _take(self, tp: Any, records: list[Any]) -> None:
        if self._epoch is None or (partition := self._epoch.partitions.get(tp.partition)) is None:
            return
        lease, source = partition.lease, partition.source
        for record in records:
            headers = _text(record.headers) if record.headers else NO_HEADERS
            self._buffer.append((partition, Delivery(record.value or b"", headers, source, record.offset, lease)))
        partition.fetched = records[-1].offset
        if not partition.full and partition.width >= self._max_gap:
            partition.full = True
            self._consumer.pause(tp)
        self._arrived.set()

    def _acked(self, partition: Partition) -> None:
        if self._epoch is None or partition.lease.closing:
            return
        if partition.full and partition.width < self._max_gap / 2:
            partition.full = False
            if not partition.lost:
                self._consumer.resume(partition.tp)
        if not partition.lease.unsettled and not self._epoch.unsettled:
            self._idle.set()

    async def _commit_in_time(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_EVERY):
                    await self._idle.wait()
                await asyncio.sleep(COMMIT_SOON)
            self._idle.clear()
            if self._epoch is not None and not await self._positions.commit(self._epoch):
                self._end_if_expelled()

    # ---- being well

    async def _probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_EVERY)
            try:
                async with asyncio.timeout(PROBE_WITHIN):
                    await self._look()
            except (errors.KafkaError, TimeoutError) as error:
                await self._unanswered(error)
            else:
                if self._silence:
                    log.info("the brokers answer again", silent_for=round(self._now() - self._answered, 1))
                self._answered, self._silence = self._now(), ""

    async def _unanswered(self, error: Exception) -> None:
        refused = isinstance(explained(error, self._settings), TransportRefused)
        known = self._consumer._client.cluster.brokers()  # noqa: SLF001 - the addresses that it really talks to
        reason = await why(error, self._settings, [(broker.host, broker.port) for broker in known])
        silent = self._now() - self._answered
        if refused or silent > REBUILD_AFTER:
            raise reason from error
        if not self._silence:
            log.warning("the brokers do not answer", reason=str(reason), silent_for=round(silent, 1))
        self._silence = str(reason)

    async def _look(self) -> None:
        """Ask the brokers how far their logs go, and compare with how far we are."""
        epoch = self._epoch
        tps = [partition.tp for partition in epoch.partitions.values()] if epoch is not None else []
        ends = await self._consumer.end_offsets(tps or self._any_partition())
        if epoch is None or epoch is not self._epoch or not epoch.placed:
            if self._now() - self._member_at > REBUILD_AFTER:
                raise TransportDown(f'Kafka: group "{self._settings.group}" has not let us in for {REBUILD_AFTER:g} s')
            return
        self._member_at = self._now()
        waiting, crowded = Counter(partition for partition, _ in self._buffer), self._crowded()
        for partition in epoch.partitions.values():
            position = await self._consumer.position(partition.tp)  # placed, so it is known and this does not wait
            end = ends[partition.tp]
            held = partition.full or partition.lost or crowded
            if position != partition.position or position >= end or held:
                partition.position, partition.moved_at = position, self._now()
            elif self._now() - partition.moved_at > STALLED_AFTER:
                raise TransportDown(f"Kafka: {partition.tp} has records that are not fetched for {STALLED_AFTER:g} s")
            partition.lag = max(0, end - position) + waiting[partition]

    def _any_partition(self) -> list[Any]:
        known = self._consumer.partitions_for_topic(self._settings.topic)
        if not known:
            raise errors.UnknownTopicOrPartitionError(self._settings.topic)
        return [TopicPartition(self._settings.topic, min(known))]

    # ---- tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or explained(error, self._settings)
        self._arrived.set()


ConsumerRebalanceListener.register(Membership)


def _text(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    return {name: "" if value is None else value.decode("utf-8", "backslashreplace") for name, value in headers}
