"""Apache Kafka: a consumer group that commits only what is finished.

The clients of aiokafka are made anew at each `open`, with the secrets of that moment, and thrown away by `close`. What a
stay in the group is made of lies in `kafka_membership`; here are its two ends, the producer, and what can be said
before anything is consumed.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.client import ConnectionGroup
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocol
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.structs import TopicPartition

from investbus import config_bus
from investbus.errors import TransportDown, TransportRefused
from investbus.transport import Delivery, Message, SettleCounts, TransportState
from investbus.transports.kafka_membership import FLUSH_WITHIN, Membership
from investbus.transports.kafka_security import CLIENT_ID, connection, in_the_clear, why

REQUEST_TIMEOUT = 10.0
METADATA_AGE = 30.0  # new partitions are seen within this
FETCH_BYTES = 16_777_216  # of one broker at a time
PARTITION_BYTES = 262_144  # of one partition at a time; a larger record still comes, alone
NEVER = 2**31 - 1  # milliseconds: aiokafka's watchdog over getmany would leave the group when nobody asks for events
PUBLISH_WITHIN = 15.0
ASK_FOR_TOPIC = 10  # times; where brokers make a topic that is asked for, it takes a moment
GIVE_UP_AFTER = 5.0  # seconds for a client to stop after an error
REFUSALS = (  # what a group can have against any member like us; every other answer to one that does not exist says nothing
    errors.InvalidSessionTimeoutError,
    errors.InvalidGroupIdError,
    errors.InconsistentGroupProtocolError,
    errors.GroupAuthorizationFailedError,
)


class Kafka:
    """The `kafka` transport."""

    name: str = "kafka"
    guarantees: Mapping[str, str] = {
        "delivery": "at least once: an offset is committed when its event and all before it are finished",
        "order": "per key, as far as the producer's key keeps it in one partition",
        "replicas": "as many as the topic has partitions; further ones wait",
    }

    def __init__(self, settings: config_bus.Kafka, *, drain_cap: float, max_gap: int) -> None:
        self.source = f"kafka:{settings.topic}"
        self.counts = SettleCounts()
        self._settings = settings
        self._drain_cap = drain_cap
        self._max_gap = max_gap
        # Two in a row have to fit into a session, or one lost answer costs the membership.
        self._request_timeout = min(REQUEST_TIMEOUT, 0.4 * settings.session_timeout)
        self._heartbeat = min(3.0, settings.session_timeout / 3)
        # The longest way from a rebalance to joining again: heartbeat that tells of it, drain, last commit, request.
        self._rebalance_timeout = self._heartbeat + drain_cap + FLUSH_WITHIN + self._request_timeout
        self._consumer: Any = None
        self._membership: Membership | None = None
        self._producer: Any = None
        self._producing = asyncio.Lock()
        self._stopping: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        consumer = await self._started_consumer()
        try:
            if findings := await self._looked_up(consumer):
                raise TransportRefused(findings[0])
            membership = Membership(consumer, self._settings, self.counts, drain_cap=self._drain_cap, max_gap=self._max_gap)
            membership.join()
        except BaseException:
            await self._stop(consumer, GIVE_UP_AFTER)
            raise
        self._consumer, self._membership = consumer, membership

    async def receive(self, limit: int) -> list[Delivery]:
        if self._membership is None:
            raise TransportDown(f"{self.source} is not open")
        return await self._membership.receive(limit)

    async def publish(self, messages: Sequence[Message]) -> None:
        try:
            async with asyncio.timeout(PUBLISH_WITHIN):
                producer = await self._started_producer()
                sent = [
                    await producer.send(
                        self._settings.topic,
                        message.body,
                        key=None if message.key is None else message.key.encode(),
                        headers=[(name, value.encode()) for name, value in message.headers.items()],
                    )
                    for message in messages
                ]
                await asyncio.gather(*sent)
        except errors.MessageSizeTooLargeError as error:
            raise TransportRefused(f"{self.source}: a message is too large: {error}") from error
        except (errors.KafkaError, TimeoutError) as error:
            await self._stop_producer(0.0)  # what it still holds is not confirmed, and should not be sent after all
            raise await why(error, self._settings) from error

    async def close(self, flush_timeout: float) -> None:
        end = asyncio.get_running_loop().time() + flush_timeout
        membership, self._membership = self._membership, None
        consumer, self._consumer = self._consumer, None
        if membership is not None:
            await membership.leave(flush_timeout)
        left = max(0.0, end - asyncio.get_running_loop().time())
        await asyncio.gather(self._stop(consumer, left), self._stop_producer(left))

    def state(self) -> TransportState:
        if self._membership is None:
            return TransportState(connected=False, joined=False, reason="not open")
        return self._membership.state()

    async def check(self) -> list[str]:
        findings = in_the_clear(self._settings)
        try:
            consumer = await self._started_consumer()
            try:
                return findings + await self._looked_up(consumer)
            finally:
                await self._stop(consumer, GIVE_UP_AFTER)
        except TransportRefused as refused:
            return [*findings, str(refused)]

    # ---- the consumer

    async def _started_consumer(self) -> Any:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap_servers,
            metadata_max_age_ms=_ms(METADATA_AGE),
            group_id=self._settings.group,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),  # every further one is a JoinGroup more
            session_timeout_ms=_ms(self._settings.session_timeout),
            heartbeat_interval_ms=_ms(self._heartbeat),
            rebalance_timeout_ms=_ms(self._rebalance_timeout),
            max_poll_interval_ms=NEVER,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            **connection(self._settings, self._request_timeout),
        )
        await self._start(consumer)
        return consumer

    async def _looked_up(self, consumer: Any) -> list[str]:
        """What stands in the way of consuming, although the brokers let us in."""
        findings = []
        try:
            async with asyncio.timeout(3 * self._request_timeout):
                if self._settings.topic not in await consumer.topics():
                    user = self._settings.security.username
                    unseen = f', or user "{user}" may not see it' if user else ""
                    findings.append(f'Kafka: topic "{self._settings.topic}" does not exist{unseen}')
                await consumer.committed(TopicPartition(self._settings.topic, 0))
                await self._asked_to_join(consumer)
        except (errors.KafkaError, TimeoutError) as error:
            reason = await why(error, self._settings)
            if not isinstance(reason, TransportRefused):
                raise reason from error
            findings.append(str(reason))
        return findings

    async def _asked_to_join(self, consumer: Any) -> None:
        """Raises what the group has against a member like us, which otherwise shows only after `open`.

        The member of the question does not exist, so a broker that has nothing against it answers at once, also amid a
        rebalance, that it does not know it; nobody joins, and a group that is not there is not made.
        """
        assignor, topics = RoundRobinPartitionAssignor, {self._settings.topic}
        question = JoinGroupRequest(
            self._settings.group,
            _ms(self._settings.session_timeout),
            _ms(self._rebalance_timeout),
            f"{CLIENT_ID}-{uuid.uuid4()}",
            None,
            ConsumerProtocol.PROTOCOL_TYPE,
            [(assignor.name, assignor.metadata(topics).encode())],
        )
        coordinator = consumer._coordinator.coordinator_id  # noqa: SLF001 - known since it was asked for commits
        answer = await consumer._client.send(coordinator, question, group=ConnectionGroup.COORDINATION)  # noqa: SLF001
        if (refusal := errors.for_code(answer.error_code)) in REFUSALS:
            raise refusal

    # ---- the producer

    async def _started_producer(self) -> Any:
        async with self._producing:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.bootstrap_servers,
                    acks="all",
                    enable_idempotence=True,
                    **connection(self._settings, REQUEST_TIMEOUT),
                )
                await self._start(producer)
                try:
                    await self._known(producer.client)
                except BaseException:
                    await self._stop(producer, 0.0)
                    raise
                self._producer = producer
            return self._producer

    async def _known(self, client: Any) -> None:
        """Raises TransportRefused where there is no topic; left to itself, aiokafka would ask for it as long as for an answer."""
        topic = self._settings.topic
        client.add_topic(topic)
        for _ in range(ASK_FOR_TOPIC):
            await client.force_metadata_update()
            if client.cluster.partitions_for_topic(topic) or topic in client.cluster.unauthorized_topics:
                return
            await asyncio.sleep(0.2)
        raise TransportRefused(f'Kafka: topic "{topic}" does not exist')

    async def _stop_producer(self, within: float) -> None:
        producer, self._producer = self._producer, None
        if not await self._stop(producer, within):
            # Idempotent batches never expire: without a broker they would be tried for ever.
            producer._sender.sender_task.cancel()  # noqa: SLF001 - stop() waits for them, and there is no other way
            producer._message_accumulator.fail_all(errors.ProducerClosed())  # noqa: SLF001

    # ---- starting and stopping

    async def _start(self, client: Any) -> None:
        starting = asyncio.create_task(client.start())
        try:
            await asyncio.shield(starting)  # aiokafka forgets to close the connection of a start that is cancelled
        except BaseException as error:
            await self._stop(client, GIVE_UP_AFTER, starting)
            if isinstance(error, Exception):
                raise await why(error, self._settings) from error
            raise

    async def _stop(self, client: Any, within: float, starting: asyncio.Task[None] | None = None) -> bool:
        """Stop a consumer or a producer. Without a broker that can take long: after `within` it goes on behind us."""
        if client is None:
            return True
        stopping = asyncio.create_task(_stopped(client, starting))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)
        await asyncio.wait((stopping,), timeout=within)
        return stopping.done()


async def _stopped(client: Any, starting: asyncio.Task[None] | None) -> None:
    if starting is not None:
        await asyncio.wait((starting,))
    try:
        await client.stop()
    except (Exception, asyncio.CancelledError):
        # aiokafka cancels its own fetches and then trips over their cancellation, with its connections still open
        connections = client._client if isinstance(client, AIOKafkaConsumer) else client.client  # noqa: SLF001
        await connections.close()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
