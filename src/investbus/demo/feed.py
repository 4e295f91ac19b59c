"""Events onto a bus at a steady pace, whatever becomes of the bus meanwhile.

What the bus has not confirmed does not count as sent, and is sent again when the bus is back: a message may then lie there twice,
and none is missing.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from investbus.errors import TransportDown
from investbus.retry import RetryPolicy
from investbus.transport import Message, Transport

TICK = 0.05  # seconds between two batches, at least
LARGEST_BATCH = 500
MADE_UP_FOR = 1.0  # seconds: after a longer pause the pace goes on, without a flood
AGAIN = RetryPolicy(first=0.5, factor=2.0, max=5.0, jitter=0.0)


class Feed:
    def __init__(self, messages: Iterable[Message], transport: Transport, say: Callable[[str], None]) -> None:
        self.sent = 0  # confirmed by the bus
        self._messages = iter(messages)
        self._transport = transport
        self._say = say

    async def run(self, rate: float, count: int | None = None) -> None:
        """Send `count` messages, or for ever, `rate` in a second."""
        clock = asyncio.get_running_loop().time
        next_at, ends = clock(), None if count is None else self.sent + count
        while ends is None or self.sent < ends:
            due = min(int((clock() - next_at) * rate) + 1, LARGEST_BATCH)
            batch = list(islice(self._messages, due if ends is None else min(due, ends - self.sent)))
            await self._send(batch)
            next_at = max(next_at + len(batch) / rate, clock() - MADE_UP_FOR)
            await asyncio.sleep(max(TICK, next_at - clock()))

    async def _send(self, batch: Sequence[Message]) -> None:
        """Returns when the bus has it."""
        failures, said = 0, ""
        while True:
            try:
                await self._transport.publish(batch)
            except TransportDown as error:
                failures += 1
                if said != (said := str(error)):
                    self._say(f"the bus takes nothing, trying again: {said}")
                await asyncio.sleep(AGAIN.wait(failures, 0.0))
                continue
            if failures:
                self._say("the bus is back")
            self.sent += len(batch)
            return
