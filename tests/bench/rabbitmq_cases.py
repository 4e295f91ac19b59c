"""Consumers of a preloaded quorum queue on RabbitMQ."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from tests.bench.consumer import Consume, Envelope, Meter, main, nothing, worker

PREFETCH = 200  # what `rabbitmq.prefetch` is if nobody sets it
BATCH = PREFETCH // 2  # so that the node always has something to send
LINGER = 0.05  # seconds to wait for a whole batch


async def bare(url: str, queue: str, meter: Meter) -> None:
    """Batches as large as prefetch lets them be: decode by pydantic, await the handler, one ack for all of it."""
    import aiormq
    from aiormq.abc import DeliveredMessage

    decode, arrived, full = Envelope.model_validate_json, list[DeliveredMessage](), asyncio.Event()

    async def delivered(message: DeliveredMessage) -> None:
        arrived.append(message)
        if len(arrived) >= BATCH:
            full.set()

    meter.begin()
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.basic_qos(prefetch_count=PREFETCH)
    await channel.basic_consume(queue, delivered)
    while meter.handled < meter.events:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                await full.wait()
        full.clear()
        batch, arrived = arrived, []
        for message in batch:
            await nothing(decode(message.body))
        if batch:
            meter.count(len(batch))
            await channel.basic_ack(batch[-1].delivery_tag or 0, multiple=True)
    await connection.close()
    meter.end()


async def investbus(url: str, queue: str, meter: Meter, *, dedup: bool) -> None:
    section = {"url": url, "queue": queue, "prefetch": PREFETCH}
    await worker({"transport": "rabbitmq", "rabbitmq": section}, meter, dedup=dedup)


async def faststream(url: str, queue: str, meter: Meter) -> None:
    """FastStream without its logger, a pydantic model as the handler's argument; each event is acked after its handler."""
    from faststream import AckPolicy
    from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

    broker = RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=PREFETCH))
    there = RabbitQueue(queue, queue_type=QueueType.QUORUM, durable=True, declare=False)

    @broker.subscriber(there, ack_policy=AckPolicy.NACK_ON_ERROR)  # type: ignore[untyped-decorator]  # FastStream is not typed here
    async def handler(event: Envelope) -> None:
        meter.count()

    meter.begin()
    await broker.start()
    await meter.over.wait()
    await broker.stop()
    meter.end()


CASES: Mapping[str, Consume] = {
    "bare": bare,
    "investbus": lambda *given: investbus(*given, dedup=False),
    "investbus-dedup": lambda *given: investbus(*given, dedup=True),
    "faststream": faststream,
}

if __name__ == "__main__":
    main(CASES)
