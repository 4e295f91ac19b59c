"""Cases of every bus: what is settled, and what is not, when somebody closes it and when something dies."""

import asyncio
import time

import pytest

from investbus.errors import TransportDown
from tests.transports.conformance_bus import Bus, consuming, left, nothing_is_left_behind, numbered, numbers, opened, published
from tests.transports.conformance_guarantees import proves
from tests.transports.reading import ack, bodies, take, until

AT_ONCE = 3.0  # seconds: no lock runs out within this


class Ending:
    async def test_state_says_whether_it_is_connected_and_why_not(self, bus: Bus) -> None:
        transport = bus.transport()
        for _ in range(2):
            assert (transport.state().connected, transport.state().joined) == (False, False)
            assert transport.state().reason
            async with opened(transport):
                await until(lambda: transport.state().joined)
                assert (transport.state().connected, transport.state().reason) == (True, "")

    async def test_close_settles_what_was_decided_and_the_rest_comes_again_on_new_leases(self, bus: Bus) -> None:
        transport = bus.transport()
        await transport.publish(numbered(0, 6))
        await transport.open()
        taken = await take(transport, 6)
        ack(taken[:3])
        began = time.monotonic()
        await transport.close(3.0)
        assert time.monotonic() - began < 4.0
        assert (transport.counts.ok, transport.counts.lost, transport.counts.error) == (3, 0, 0)
        assert all(delivery.lease.lost for delivery in taken)
        await bus.expire()
        async with opened(transport):
            again = await take(transport, 3)
            assert sorted(numbers(again)) == [3, 4, 5]
            assert not {delivery.lease for delivery in taken} & {delivery.lease for delivery in again}
            ack(again)
        assert await left(bus, transport) == []

    async def test_what_is_given_back_before_close_comes_again_at_once(self, bus: Bus) -> None:
        transport = bus.transport()
        await transport.publish(numbered(0, 10))
        await transport.open()
        taken = await take(transport, 4)
        taken[0].ack()
        for delivery in taken[1:]:
            delivery.release()
        await transport.close(5.0)
        assert transport.counts.leases_lost == 0
        async with opened(transport):
            again = await take(transport, 9, within=AT_ONCE)
            assert sorted(numbers(again)) == list(range(1, 10))
            assert not bus.guarantees.in_order or numbers(again) == list(range(1, 10))
            ack(again)
        assert await left(bus, transport) == []

    async def test_closed_it_says_so_to_whoever_waits_and_may_be_closed_again(self, bus: Bus) -> None:
        transport = bus.transport()
        await transport.close(1.0)
        with pytest.raises(TransportDown, match="not open"):
            await transport.receive(1)
        await transport.open()
        waiting = asyncio.create_task(transport.receive(1))
        await asyncio.sleep(0.05)
        await transport.close(1.0)
        await transport.close(1.0)
        with pytest.raises(TransportDown):
            await asyncio.wait_for(waiting, 1.0)
        with pytest.raises(TransportDown, match="not open"):
            await transport.receive(1)

    async def test_closed_it_leaves_nothing_running_and_nothing_open(self, bus: Bus) -> None:
        transport = bus.transport()
        await transport.publish(numbered(0, 5))
        async with opened(transport):
            ack(await take(transport, 3))
        await nothing_is_left_behind()

    @proves("survives")
    async def test_a_crash_takes_nothing_that_was_published_and_nothing_that_was_not_acked(self, bus: Bus) -> None:
        transport = bus.transport()
        await transport.publish(numbered(0, 4))
        async with consuming(transport) as received:
            await until(lambda: len(received) == 4)
            received[0].ack()
            await until(lambda: transport.counts.ok == 1)
            await transport.publish(numbered(4, 6))
            await bus.crash()
            await published(transport, numbered(6, 7))
            await until(lambda: b"6" in bodies(received))  # it takes events again, by itself or by being opened anew
        kept = await left(bus, bus.transport())
        assert kept == ([b"1", b"2", b"3", b"4", b"5", b"6"] if bus.guarantees.survives else [])
