"""Consumers of a preloaded queue on Service Bus."""

import asyncio
from collections.abc import Mapping

from tests.bench.consumer import Consume, Envelope, Meter, main, nothing, worker

WINDOW = 64  # what `servicebus.window` is if nobody sets it
SOCKET_TIMEOUT = 0.02  # each group of settlements pays it once; at the SDK's own 0.2 s this loop is four times slower


async def bare(connection_string: str, queue: str, meter: Meter, *, window: int) -> None:
    """One coroutine that fills a window, decodes by pydantic, awaits the handler, and settles the window at once.

    The SDK prefetches another window meanwhile, so twice as many are locked.
    """
    from azure.servicebus import ServiceBusReceivedMessage
    from azure.servicebus.aio import ServiceBusClient

    decode = Envelope.model_validate_json
    client = ServiceBusClient.from_connection_string(connection_string)
    meter.begin()
    receiver = client.get_queue_receiver(queue, prefetch_count=window, socket_timeout=SOCKET_TIMEOUT)
    async with client, receiver:
        while meter.handled < meter.events:
            held: list[ServiceBusReceivedMessage] = []
            while len(held) < window and (got := await receiver.receive_messages(1, SOCKET_TIMEOUT if held else 1.0)):
                await nothing(decode(b"".join(got[0].body)))
                held += got
            await asyncio.gather(*(receiver.complete_message(message) for message in held))
            if held:
                meter.count(len(held))
    meter.end()


async def investbus(connection_string: str, queue: str, meter: Meter, *, dedup: bool) -> None:
    section = {"connection_string": connection_string, "queue": queue, "window": WINDOW}
    await worker({"transport": "servicebus", "servicebus": section}, meter, dedup=dedup)


CASES: Mapping[str, Consume] = {
    "bare": lambda *given: bare(*given, window=WINDOW),
    "bare-tight": lambda *given: bare(*given, window=WINDOW // 2),
    "investbus": lambda *given: investbus(*given, dedup=False),
    "investbus-dedup": lambda *given: investbus(*given, dedup=True),
}

if __name__ == "__main__":
    main(CASES)
