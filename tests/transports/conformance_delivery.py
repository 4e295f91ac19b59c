"""Cases of every bus: what is handed out, in which order, how much of it, and what becomes of a call that is cancelled."""

import asyncio
import random

from investbus.transport import Delivery, Message
from tests.transports.conformance_bus import PLENTY, Bus, left, numbered, numbers, opened
from tests.transports.reading import ack, nothing, take, until

BODIES = (
    b'{"id": 1}',
    b"",
    b"\x00\xff\xfe\n\r\n",
    b'{"text": "\xe2\x80\xa8 \xf0\x9f\x92\xb6"}',
    bytes(range(256)),
    random.Random(1).randbytes(200_000),
    b"last",
)
HEADERS = {"trace-id": "00-4bf9", "city": "Zürich € \U0001f4b6", "empty": "", "long": "h" * 2000}


class Delivering:
    async def test_a_message_comes_with_body_and_headers_as_they_were(self, bus: Bus) -> None:
        sent = [Message(body, HEADERS if place % 2 else {}, "key") for place, body in enumerate(BODIES)]
        async with opened(bus.transport()) as transport:
            await transport.publish(sent)
            taken = await take(transport, len(sent))
            assert [(one.body, dict(one.headers), one.fault) for one in taken] == [(one.body, one.headers, "") for one in sent]

    async def test_a_first_delivery_says_that_it_is_one_and_where_it_lay(self, bus: Bus) -> None:
        async with opened(bus.transport()) as transport:
            await transport.publish(numbered(0, 5))
            taken = await take(transport, 5)
            assert [(one.redelivered, one.count, one.settled, one.lease.closing) for one in taken] == [(False, 1, False, False)] * 5
            assert len({one.origin for one in taken}) == 5
            assert all(one.source.startswith(transport.source) for one in taken)
            assert transport.source.startswith(f"{transport.name}:")

    async def test_messages_come_once_each_in_the_order_of_their_publishing(self, bus: Bus) -> None:
        """From somebody who never opens the bus to read from it, as `investbus send`."""
        publisher = bus.transport()
        for start in range(0, 300, 50):
            await publisher.publish(numbered(start, start + 50))
        await publisher.close(5.0)
        taken: list[Delivery] = []
        async with opened(bus.transport()) as transport:
            while len(taken) < 300:
                some = await take(transport, min(random.randint(1, 40), 300 - len(taken)))
                ack(some)
                taken += some
        assert numbers(taken) == list(range(300))
        assert await left(bus, transport) == []

    async def test_receive_waits_for_the_first_and_gives_no_more_than_it_was_asked_for(self, bus: Bus) -> None:
        async with opened(bus.transport()) as transport:
            assert await nothing(transport, during=0.3)
            waiting = asyncio.create_task(transport.receive(3))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await transport.publish(numbered(0, 10))
            taken = await asyncio.wait_for(waiting, 10.0)
            while len(taken) < 10:
                some = await asyncio.wait_for(transport.receive(3), 10.0)
                assert 1 <= len(some) <= 3
                taken += some
            assert numbers(taken) == list(range(10))

    async def test_what_is_unacked_is_bounded_and_acks_make_room(self, bus: Bus) -> None:
        transport = bus.transport(bound=10)
        await transport.publish(numbered(0, 40))
        taken: list[Delivery] = []
        async with opened(transport):
            while len(taken) < 40:
                unacked = await transport.receive(PLENTY)
                while len(unacked) < 10:
                    unacked += await asyncio.wait_for(transport.receive(PLENTY), 10.0)
                assert len(unacked) == 10
                assert await nothing(transport, during=0.5 if not taken else 0.1)
                ack(unacked)
                taken += unacked
        assert numbers(taken) == list(range(40))
        assert await left(bus, transport) == []

    async def test_a_receive_that_is_cancelled_loses_nothing_and_repeats_nothing(self, bus: Bus) -> None:
        """In the middle of whatever it does: some steps of the event loop after its beginning, or some milliseconds."""
        seen: list[Delivery] = []
        cancelled = 0
        async with opened(bus.transport()) as transport:
            await until(lambda: transport.state().joined)
            for turn in range(150):
                receiving = asyncio.create_task(transport.receive(1))
                publishing = asyncio.create_task(transport.publish(numbered(2 * turn, 2 * turn + 2)))
                for _ in range(turn % 8):
                    await asyncio.sleep(0)
                if turn % 3 == 0:
                    await asyncio.sleep(random.choice((0.0005, 0.002, 0.005)))
                receiving.cancel()
                try:
                    seen += await receiving
                except asyncio.CancelledError:
                    cancelled += 1
                await publishing
            assert 0 < cancelled < 150, "some were cancelled and some were not"
            seen += await take(transport, 300 - len(seen))
            assert await nothing(transport, during=0.3)
        assert numbers(seen) == list(range(300))
