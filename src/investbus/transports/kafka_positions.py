"""Where a group stands in its topic: what it commits, where it begins, and what becomes of a position that is gone.

The broker never asks whether a partition is still ours. A commit that slips into a later generation of the group
would set the new owner back, so everything sent from here carries the generation of its epoch or is not sent at all.
aiokafka's `commit()` cannot promise that: it waits for a coordinator, tries again for ever, and takes the generation of
the moment in which it gets through. Hence `send` makes the single attempt underneath it, which takes the generation
before its first await.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import errors
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from investbus import config_bus
from investbus.errors import TransportDown
from investbus.transports.kafka_partition import Epoch, Partition

TRY_AGAIN = 0.5

log = structlog.get_logger("investbus.kafka")


class Positions:
    """Of one consumer."""

    def __init__(self, consumer: Any, settings: config_bus.Kafka) -> None:
        self._consumer = consumer
        self._settings = settings
        self._committing = asyncio.Lock()

    @property
    def generation(self) -> int:
        generation: int = self._coordinator.generation
        return generation

    @property
    def _coordinator(self) -> Any:
        return self._consumer._coordinator  # noqa: SLF001 - generation and single attempt are in no public interface

    async def commit(self, epoch: Epoch) -> bool:
        """Commit the finished prefix of every partition in which it has moved; True if all of it is confirmed now."""
        async with self._committing:
            due = {partition: due for partition in epoch.partitions.values() if (due := partition.due())}
            if not due or await self.send(epoch, {partition.tp: offset for partition, (offset, _) in due.items()}):
                for partition, (offset, covered) in due.items():
                    partition.confirm(offset, covered)
                return True
            if self.generation != epoch.generation:
                for partition, (_, covered) in due.items():
                    partition.refuse(covered)
            return False

    async def flush(self, epoch: Epoch, within: float) -> None:
        """Commit before the epoch ends, again and again while the broker may still take it."""
        try:
            async with asyncio.timeout(within):
                confirmed = await self.commit(epoch)
                while not confirmed and self.generation == epoch.generation:
                    await asyncio.sleep(TRY_AGAIN)
                    confirmed = await self.commit(epoch)
        except TimeoutError:
            log.warning("commit not confirmed", group=self._settings.group, within=within)

    async def send(self, epoch: Epoch, offsets: Mapping[Any, int]) -> bool:
        """One attempt. False: not sent, or refused, or lost on the way."""
        stamped = {tp: OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        within = self._settings.session_timeout
        if self.generation != epoch.generation:
            return False
        try:
            async with asyncio.timeout(within):
                await self._coordinator._do_commit_offsets(None, stamped)  # noqa: SLF001 - for the reason at the top
        except TimeoutError as error:
            raise TransportDown(f"Kafka: a commit was neither confirmed nor refused within {within:g} s") from error
        except (errors.UnknownMemberIdError, errors.IllegalGenerationError, errors.RebalanceInProgressError):
            return False
        except errors.KafkaError as error:
            if not error.retriable:
                raise
            return False
        return True

    async def place(self, epoch: Epoch) -> None:
        """Find out where to begin, and begin. Until then all partitions of the epoch are paused."""
        starts = await self._starts(epoch)
        while starts is None:
            await asyncio.sleep(TRY_AGAIN)
            starts = await self._starts(epoch)
        for partition in epoch.partitions.values():
            partition.begin(starts[partition.tp])
            self._consumer.seek(partition.tp, partition.committed)
            self._consumer.resume(partition.tp)
        epoch.placed = True

    async def _starts(self, epoch: Epoch) -> dict[Any, int] | None:
        """Committed offsets; without one a partition's begin, or its end if the whole group is new and wants that."""
        own = [partition.tp for partition in epoch.partitions.values()]
        topic = self._settings.topic
        every = {*own, *(TopicPartition(topic, n) for n in self._consumer.partitions_for_topic(topic) or ())}
        try:
            kept = await self._coordinator.fetch_committed_offsets(list(every))  # committed() takes one partition a call
            starts: dict[Any, int] = {tp: offset.offset for tp, offset in kept.items()}
            if starts or self._settings.start_from == "earliest":
                return starts | dict(await self._consumer.beginning_offsets([tp for tp in own if tp not in starts]))
            # Committed at once, and for all partitions: a peer that looks a moment later would take its own for new.
            starts = await self._consumer.end_offsets(list(every))
        except errors.KafkaError as error:
            if error.retriable or isinstance(error, errors.KafkaTimeoutError):
                return None
            raise
        return starts if await self.send(epoch, starts) else None

    async def lost(self, epoch: Epoch, partition: Partition, offset: int) -> None:
        """`offset` is not in the log: retention overtook us, or it is another log. Go on as the settings say, not unseen."""
        tp, policy = partition.tp, self._settings.on_lost_position
        begins = (await self._consumer.beginning_offsets([tp]))[tp]
        ends = (await self._consumer.end_offsets([tp]))[tp]
        if partition.lease.closing or partition.lost:
            return
        told = log.bind(partition=f"{tp.topic}/{tp.partition}", offset=offset, begins=begins, ends=ends)
        if policy == "stop":
            self._consumer.pause(tp)
            gone = f"committed offset {offset} of {tp.topic}/{tp.partition} is gone (the log has {begins} to {ends})"
            partition.lost = f"{gone}; set kafka.on_lost_position or reset the group"
            told.error("position lost", reading="stopped")
            return
        target = begins if policy == "earliest" else ends
        async with self._committing:
            if not await self.send(epoch, {tp: target}) or partition.lease.closing:
                return  # the next fetch meets the same error
            if target < offset:
                epoch.restart(partition, target)
            else:
                partition.committed = target
        self._consumer.seek(tp, target)
        told.warning("position lost", reading=f"from {target}")
