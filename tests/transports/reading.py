"""How the tests of a transport take events: as the worker does, but with the acks in the test's own hands."""

import asyncio
import time
from collections.abc import Callable

from investbus.transport import Delivery, Transport


async def take(bus: Transport, count: int, within: float = 15.0) -> list[Delivery]:
    """The next `count` deliveries, unacked."""
    taken: list[Delivery] = []
    async with asyncio.timeout(within):
        while len(taken) < count:
            taken += await bus.receive(count - len(taken))
    return taken


async def nothing(bus: Transport, during: float = 0.7) -> bool:
    """Whether nothing comes for so long."""
    try:
        async with asyncio.timeout(during):
            return not await bus.receive(1)
    except TimeoutError:
        return True


async def until(fact: Callable[[], object], within: float = 15.0) -> float:
    """Wait until `fact` holds; how long that took."""
    start = time.monotonic()
    while not fact():
        if time.monotonic() - start > within:
            raise AssertionError(f"not so within {within:g} s")
        await asyncio.sleep(0.05)
    return time.monotonic() - start


def ack(deliveries: list[Delivery]) -> None:
    for delivery in deliveries:
        delivery.ack()


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.body for delivery in deliveries]
