"""Which acks a channel writes, so that one frame settles as much as it can and none settles a tag twice; and when they are safe.

RabbitMQ numbers the deliveries of a channel, and an ack may cover all up to its tag. Handlers finish in any order, so such an ack
may only reach the end of the finished prefix; what is finished above an unfinished delivery is acked by itself. A tag that was
acked before is unknown to the broker: acking it again, or naming it as the end of a prefix, closes the channel and brings back
everything that was unacked on it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import aiormq

from investbus.transports.rabbitmq_connection import Link, answered
from investbus.transports.rabbitmq_queue import look, nobody

LAST_IN_TURN = -1000  # priority of a consumer that should get nothing
LOOK_AGAIN = 0.01  # seconds


async def applied(link: Link, channel: aiormq.Channel, queue: str, full: Callable[[], bool]) -> None:
    """Returns when the broker has sent all acks that were written on `channel` to the queue.

    A channel has at most 33 acks on their way to a quorum queue, keeps the others back meanwhile, and forgets these if it ends
    (rabbitmq-server#10327). So it is asked something, which it answers after it has read all acks; then the queue has to agree to
    a new consumer and to its end, which it does after it has applied those 33; and what the channel is asked next it answers
    after it has heard of that, and has sent the rest. Where events wait on the queue, that consumer could be given one. But then
    they come to us as acks are applied, until as many are unacked as may be: `full`.
    """
    while not full():
        waiting, _ = await look(channel, queue)
        if not waiting:
            other = await link.channel()
            await answered(other.basic_qos(prefetch_count=1))
            consuming = await answered(other.basic_consume(queue, nobody, arguments={"x-priority": LAST_IN_TURN}))
            await answered(other.basic_cancel(str(consuming.consumer_tag)))
            await look(channel, queue)
            return
        await asyncio.sleep(LOOK_AGAIN)


class Tags:
    """The delivery tags of one channel. Not shared between channels: the same number means another message there."""

    __slots__ = ("_finished", "_new", "_pending")

    def __init__(self) -> None:
        self._pending: deque[tuple[int, float]] = deque()  # delivered and not in the prefix, in order, each with its time
        self._finished: set[int] = set()  # of these, the ones to be acked or acked already
        self._new: set[int] = set()  # finished since acks were last due

    def delivered(self, tag: int, now: float) -> None:
        self._pending.append((tag, now))

    def finished(self, tag: int) -> None:
        """The delivery `tag` may be acked. Each tag once: `Delivery` sees to that."""
        self._finished.add(tag)
        self._new.add(tag)

    def due(self) -> list[tuple[int, bool]]:
        """Acks to be written now, in this order: each a tag, and whether it covers all before it."""
        new, self._new = self._new, set()
        acks: list[tuple[int, bool]] = []
        last, covered = 0, 0
        while self._pending and self._pending[0][0] in self._finished:
            tag, _ = self._pending.popleft()
            self._finished.remove(tag)
            if tag in new:  # else it was acked by itself, and the prefix must not end with it
                new.remove(tag)
                last, covered = tag, covered + 1
        if covered:
            acks.append((last, covered > 1))
        acks += [(tag, False) for tag in sorted(new)]
        return acks

    @property
    def outstanding(self) -> int:
        """How many deliveries are unfinished."""
        return len(self._pending) - len(self._finished)

    @property
    def oldest(self) -> float | None:
        """When the oldest unfinished delivery came."""
        return next((came for tag, came in self._pending if tag not in self._finished), None)
